"""Transcripts by PocketSphinx, a recogniser of another family than Whisper (extra `eval`)."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vc_lightning.audio.files import io as audio
from vc_lightning.audio.voice_activity import INT16_MAX
from vc_lightning.evaluation.progress import show_progress
from vc_lightning.evaluation.scorers.availability import SAMPLE_RATE, require_packages
from vc_lightning.evaluation.scorers.recognisers.texts import (
    ENGLISH,
    character_errors,
    plain_text,
)
from vc_lightning.evaluation.scores import ScoredConversion

ASPECT = "pocketsphinx"  # its name in scorers=
PEAK = 0.5  # of the 16-bit input, in which quiet recordings would lose precision
# These limits halve the time; the character error rate on recordings rises from 0.35 to 0.36.
MAX_STATES = 3_000  # HMMs that are searched per frame
MAX_WORDS = 10  # words that may end per frame


def require_installed() -> None:
    """Raise MissingScorerError where the packages of `PocketSphinx` are not installed."""
    require_packages(ASPECT, "pocketsphinx", "jiwer")


class PocketSphinx:
    """Transcribes English with GMM-HMMs and a trigram language model (Huggins-Daines et al. 2006).

    Unlike Whisper, it does not favour a converter that was trained with Whisper's features. Its
    model is in the wheel.

    Raises:
        MissingScorerError: A package is not installed.
    """

    def __init__(self) -> None:
        require_installed()
        from pocketsphinx import Decoder

        self.decoder = Decoder(loglevel="FATAL", cmn="batch", maxhmmpf=MAX_STATES, maxwpf=MAX_WORDS)

    def transcript(self, wav: np.ndarray, sample_rate: int) -> str:
        """Transcribe a recording.

        Args:
            wav: The recording (n,).
            sample_rate: Its sample rate in Hz.

        Returns:
            Lower-case text without punctuation; "" if no word is found.
        """
        wav = audio.resample(wav, sample_rate, SAMPLE_RATE)
        peak = np.abs(wav).max(initial=0)
        if peak < audio.SILENCE_PEAK:
            return ""  # PocketSphinx finds words in silence
        pcm = np.round(wav * (PEAK * INT16_MAX / peak)).astype("<i2")
        self.decoder.start_utt()
        self.decoder.process_raw(pcm.tobytes(), full_utt=True)
        self.decoder.end_utt()
        found = self.decoder.hyp()
        return plain_text(found.hypstr) if found else ""


def score(
    recogniser: PocketSphinx, conversions: Sequence[ScoredConversion], sample_rate: int
) -> Counter[str]:
    """Set PocketSphinx's character error rates on sources and on conversions.

    The reference of both is the pair's text, or else Whisper's transcript of the source.

    Args:
        recogniser: Transcribes recordings.
        conversions: The conversions.
        sample_rate: Sample rate of their sound in Hz.

    Returns:
        Reasons why pairs were left out, with the number of pairs.
    """
    known: dict[Path, str] = {}
    left_out: Counter[str] = Counter()
    for conversion in show_progress(conversions, ASPECT):
        pair, sounds, transcripts = conversion.pair, conversion.sounds, conversion.transcripts
        by_whisper = transcripts.get("words/source") or transcripts.get("tiny_en/source", "")
        reference = plain_text(pair.text) or by_whisper
        if pair.language not in ENGLISH:
            left_out[f"{ASPECT}: understands English only"] += 1
            continue
        if not reference:
            left_out[f"{ASPECT}: there is no text; add words to scorers=, or a column text"] += 1
            continue
        if pair.source not in known:
            known[pair.source] = recogniser.transcript(sounds.source, sample_rate)
        before = known[pair.source]
        after = conversion.heard(recogniser.transcript, sample_rate)
        transcripts |= {f"{ASPECT}/source": before, f"{ASPECT}/conversion": after}
        conversion.scores[f"{ASPECT}/source"] = character_errors(reference, before)
        conversion.scores[f"{ASPECT}/conversion"] = character_errors(reference, after)
    return left_out
