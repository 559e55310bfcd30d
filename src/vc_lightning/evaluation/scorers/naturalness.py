"""Score naturalness by any listener: DistillMOS or DNSMOS."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.evaluation.progress import show_progress
from vc_lightning.evaluation.scores import ScoredConversion


class Listener(Protocol):
    """Scores the naturalness of recordings."""

    def naturalness(self, wav: np.ndarray, sample_rate: int) -> float:
        """Return the score of a recording (n,), 1 to 5."""


def score(
    judge: str, listener: Listener, conversions: Sequence[ScoredConversion], mel: MelSpectrogram
) -> None:
    """Set the naturalness of sources, of the vocoder alone and of conversions.

    Sources are brought to the level of the mels, which the others have already.

    Args:
        judge: Section of the scores, "distillmos" or "dnsmos".
        listener: Scores naturalness.
        conversions: The conversions.
        mel: The mel-spectrogram of the converter.
    """
    rate = mel.sample_rate
    known: dict[Path, dict[str, float]] = {}
    for conversion in show_progress(conversions, judge):
        source, sounds, scores = conversion.pair.source, conversion.sounds, conversion.scores
        if source not in known:
            leveled = mel.leveled(sounds.source, rate)
            known[source] = {f"{judge}/recording": listener.naturalness(leveled, rate)}
            if sounds.vocoder is not None:
                vocoder = listener.naturalness(sounds.vocoder, rate)
                known[source][f"{judge}/vocoder"] = vocoder
        scores.update(known[source])
        scores[f"{judge}/conversion"] = listener.naturalness(sounds.conversion, rate)
