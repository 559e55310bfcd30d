"""Say beforehand which recordings convert badly, and what helps: one sentence each.

The limits were measured on recordings of readers, studios and everyone's microphones (Common
Voice), see the constants; `evaluate.py robustness=true` shows what such recordings lose.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vc_lightning.audio.checks import quality
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.recording import Recording
from vc_lightning.conversion.voices.voice import VoiceSample
from vc_lightning.models.speaker_encoder import similarity

# 18 recordings: at least 16 dB; with pink noise 10 dB below them 11 to 15, 5 dB below 8 to 11 dB.
MIN_SNR_DB = 14.0
# The same recordings: none; clipped at a quarter of their peak a median of 0.06.
MAX_CLIPPED = 0.01
MIN_TARGET_SECONDS = 3.0
# GE2E cosines of 49 pairs of recordings of one speaker (everyone's microphones): at least 0.63. Of
# two speakers a quarter is above 0.61.
MIN_SIMILARITY = 0.6
# First and last third of 60 recordings (4.5 to 30 s, of all three kinds): at least 0.56. Of two
# speakers (433 pairs of thirds) a fifth is above 0.55.
MIN_PART_SIMILARITY = 0.55
MIN_PART_SECONDS = 1.5
MAX_PART_SECONDS = 30.0


def of_recording(
    name: Path | str,
    wav: np.ndarray,
    sample_rate: int,
    speech: np.ndarray,
    can_clean: bool = True,
) -> list[str]:
    """Advise on the quality of a source or target.

    Args:
        name: Name of the recording.
        wav: The recording (n,).
        sample_rate: Its sample rate in Hz.
        speech: Whether each window of 30 ms holds speech, see `Level`.
        can_clean: Whether the noise can be removed by `cleanup.denoise=true`.

    Returns:
        Sentences with the remedy; none for a good recording.
    """
    measured = quality.measure(wav, sample_rate, speech)
    sentences = []
    if measured.snr_db < MIN_SNR_DB:
        remedy = ", or try cleanup.denoise=true" if can_clean else ""
        sentences.append(
            f"{name}: is noisy (its speech is only {measured.snr_db:.0f} dB above the noise), so "
            f"words and voice will suffer; record it closer to the microphone{remedy}"
        )
    if measured.clipped > MAX_CLIPPED:
        sentences.append(
            f"{name}: is clipped (in {measured.clipped:.0%} of its samples), so the conversion "
            "will be rough; record it at a lower level"
        )
    return sentences


def of_speakers(name: Path | str, wav: np.ndarray, converter: VoiceConverter) -> list[str]:
    """Advise on a recording (n,) of a target voice in which a second speaker follows the first.

    Returns:
        A sentence with the remedy; none if beginning and end, which the converter embeds, sound
        alike, or are too short to tell.
    """
    n = min(len(wav) // 3, int(MAX_PART_SECONDS * converter.sample_rate))
    if n < MIN_PART_SECONDS * converter.sample_rate:
        return []
    try:
        alike = similarity(converter.embed(wav[:n]), converter.embed(wav[-n:]))
    except InputError:  # one of them has too little speech
        return []
    if alike >= MIN_PART_SIMILARITY:
        return []
    return [
        f"{name}: begins and ends like two speakers (similarity {alike:.2f}), so the voice will be "
        "a mixture; give recordings of one speaker"
    ]


def of_target(samples: Sequence[tuple[Path | str, VoiceSample | Recording]]) -> list[str]:
    """Advise on the recordings of a target voice, each with its analysis.

    Returns:
        Sentences with the remedy; none for a good voice.
    """
    sentences = []
    seconds = sum(sample.seconds for _, sample in samples)
    if seconds < MIN_TARGET_SECONDS:
        sentences.append(
            f"{samples[0][0]}: the target has {seconds:.1f} s only, so the voice will be a rough "
            "guess; give 10 s or more of that speaker"
        )
    pairs = itertools.combinations(samples, 2)
    alike = [
        (similarity(sample.embedding, other_sample.embedding), one, other)
        for (one, sample), (other, other_sample) in pairs
    ]
    least, one, other = min(alike, key=lambda pair: pair[0], default=(1.0, "", ""))
    if least < MIN_SIMILARITY:
        sentences.append(
            f"{one}, {other}: sound like two speakers (similarity {least:.2f}), so the voice will "
            "be a mixture; give recordings of one speaker"
        )
    return sentences
