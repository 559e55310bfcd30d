"""A warning for recordings of speech in which the pitch tracker finds hardly any voice."""

import logging
from pathlib import Path

import numpy as np

from vc_lightning.audio import io as audio
from vc_lightning.audio import voice_activity

log = logging.getLogger(__name__)

# 918 recordings of speech of seven corpora have at least 0.29 and a median of 0.60 (SwiftF0, frames
# of a confidence of 0.5), six of them made a whisper (noise in place of the voice) at most 0.03.
MIN_VOICED_SHARE = 0.15


def voiced_share(
    f0: np.ndarray, wav: np.ndarray, sample_rate: int, hop_length: int
) -> float | None:
    """Share of the frames with speech in which a pitch was found.

    Args:
        f0: (T,) in Hz, 0 where there is no voice; frame t is centred on sample t · hop_length.
        wav: the recording (n,) that it was found in.
    Returns: None where the voice activity detector finds no speech.
    """
    speech = voice_activity.speech_windows(
        audio.resample(wav, sample_rate, voice_activity.VAD_SAMPLE_RATE)
    )
    window = voice_activity.VAD_WINDOW_MS * sample_rate / 1000  # in samples of wav
    frames = (np.arange(len(f0)) * hop_length / window).astype(int)  # window of each frame
    inside = frames < len(speech)
    found = f0[inside][speech[frames[inside]]] > 0
    return float(found.mean()) if len(found) else None


class PitchCheck:
    """Warns of recordings with a `voiced_share` below `MIN_VOICED_SHARE`, of each once."""

    def __init__(self) -> None:
        self._warned: set[str] = set()  # names of files

    def __call__(
        self, name: Path | str, f0: np.ndarray, wav: np.ndarray, sample_rate: int, hop_length: int
    ) -> None:
        """Logs one sentence where hardly any pitch was found.

        Args:
            name: of the recording's file; the others as for `voiced_share`.
        """
        share = voiced_share(f0, wav, sample_rate, hop_length)
        if share is None or share >= MIN_VOICED_SHARE or str(name) in self._warned:
            return
        self._warned.add(str(name))
        log.warning(
            "%s: hardly any pitch was found in it (in %.0f %% of the frames with speech); unless "
            "it is whispered, expect a hoarse conversion",
            name,
            100 * share,
        )
