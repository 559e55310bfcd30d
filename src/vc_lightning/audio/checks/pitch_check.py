"""Warn of recordings in whose speech the pitch tracker finds hardly any pitch."""

import logging
from pathlib import Path

import numpy as np

from vc_lightning.audio.voice_activity import VAD_WINDOW_MS

log = logging.getLogger(__name__)

# 918 recordings of seven corpora: at least 0.29, median 0.60 (SwiftF0, confidence 0.5). Six of them
# turned into whispers (noise in place of the voice): at most 0.03.
MIN_VOICED_SHARE = 0.15


def voiced_share(
    f0: np.ndarray, speech: np.ndarray, sample_rate: int, hop_length: int
) -> float | None:
    """Return the share of the frames with speech in which a pitch was found.

    Args:
        f0: Pitch (T,) in Hz, 0 in unvoiced frames; frame t is centred on sample t · hop_length.
        speech: Whether each window of 30 ms holds speech, see `voice_activity.Level`.
        sample_rate: Rate of the recording in Hz.
        hop_length: Samples between two frames.

    Returns:
        The share, or None if there is no speech.
    """
    window = VAD_WINDOW_MS * sample_rate / 1000  # in samples of the recording
    frames = (np.arange(len(f0)) * hop_length / window).astype(int)  # window of each frame
    inside = frames < len(speech)
    found = f0[inside][speech[frames[inside]]] > 0
    return float(found.mean()) if len(found) else None


class PitchCheck:
    """Warns once of each recording with a `voiced_share` below `MIN_VOICED_SHARE`."""

    def __init__(self) -> None:
        self._warned: set[str] = set()  # names of files

    def __call__(
        self,
        name: Path | str,
        f0: np.ndarray,
        speech: np.ndarray,
        sample_rate: int,
        hop_length: int,
    ) -> None:
        """Log one sentence if hardly any pitch was found in a file, see `voiced_share`."""
        share = voiced_share(f0, speech, sample_rate, hop_length)
        if share is None or share >= MIN_VOICED_SHARE or str(name) in self._warned:
            return
        self._warned.add(str(name))
        log.warning(
            "%s: hardly any pitch was found in it (in %.0f %% of the frames with speech); unless "
            "it is whispered, expect a hoarse conversion",
            name,
            100 * share,
        )
