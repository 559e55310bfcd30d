"""Phonemes by the recogniser of the package `hama` (CTC, IPA; extra `eval`), of no Whisper family.

It can judge English only. With white noise at 20, 10 and 0 dB under a recording, the share of its
phonemes that change is 0.06, 0.17 and 0.52 on eleven English recordings (studio and everyone's
microphones), but already 0.31 at 20 dB (then 0.40 and 0.68) on six recordings in French, German,
Spanish, Russian, Chinese and Turkish, in which it hears English words.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vc_lightning.audio.files import io as audio
from vc_lightning.evaluation.progress import show_progress
from vc_lightning.evaluation.scorers.availability import SAMPLE_RATE, require_packages
from vc_lightning.evaluation.scorers.recognisers.texts import ENGLISH, word_errors
from vc_lightning.evaluation.scores import ScoredConversion

ASPECT = "phonemes"  # its name in scorers=


def require_installed() -> None:
    """Raise MissingScorerError where the packages of `Hama` are not installed."""
    require_packages(ASPECT, "hama", "jiwer")


class Hama:
    """Hears English phonemes with a small network in the wheel of hama.

    Raises:
        MissingScorerError: The package is not installed.
    """

    def __init__(self) -> None:
        require_installed()
        from hama.asr import ASRModel

        self.model = ASRModel()

    def phonemes(self, wav: np.ndarray, sample_rate: int) -> list[str]:
        """Return the phonemes of a recording in IPA.

        Args:
            wav: The recording (n,).
            sample_rate: Its sample rate in Hz.
        """
        return self.model(audio.resample(wav, sample_rate, SAMPLE_RATE), SAMPLE_RATE).phonemes


def score(
    recogniser: Hama, conversions: Sequence[ScoredConversion], sample_rate: int
) -> Counter[str]:
    """Set the phoneme error rates of conversions against the phonemes heard in their sources.

    Args:
        recogniser: Hears phonemes.
        conversions: The conversions.
        sample_rate: Sample rate of their sound in Hz.

    Returns:
        Reasons why pairs were left out, with the number of pairs.
    """
    known: dict[Path, str] = {}
    left_out: Counter[str] = Counter()
    for conversion in show_progress(conversions, ASPECT):
        pair, sounds = conversion.pair, conversion.sounds
        if pair.language not in ENGLISH:
            left_out[f"{ASPECT}: understands English only"] += 1
            continue
        if pair.source not in known:
            known[pair.source] = " ".join(recogniser.phonemes(sounds.source, sample_rate))
        before = known[pair.source]
        if not before:
            left_out[f"{ASPECT}: none are heard in the source"] += 1
            continue
        after = " ".join(conversion.heard(recogniser.phonemes, sample_rate))
        conversion.transcripts |= {f"{ASPECT}/source": before, f"{ASPECT}/conversion": after}
        conversion.scores[f"{ASPECT}/errors"] = word_errors(before, after)
    return left_out
