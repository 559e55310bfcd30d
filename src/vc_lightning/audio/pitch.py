"""Pitch: a recording's F0 contour, the range of a voice, and the way from one into another."""

from collections.abc import Sequence
from dataclasses import dataclass

import librosa
import numpy as np

FMIN_HZ = 60
FMAX_HZ = 500
SECONDS_OF_A_FRAME = 0.06  # at least: three periods of a low voice
SEMITONES = 0.2  # between candidates: half as fine takes a quarter of the time
MAX_STRETCH = 1.5  # of a contour: one recording says little about how lively a voice is
IQR_OF_NORMAL = 1.349  # standard deviations
MIN_VOICED_FRAMES = 10


@dataclass(frozen=True)
class PitchRange:
    """Where a voice lies.

    Attributes: centre, median of log2 F0 in Hz; spread, its standard deviation in octaves, as the
        quartiles have it: where the tracker takes creak or noise for a pitch it is far off.
    """

    centre: float
    spread: float


def track(wav: np.ndarray, sample_rate: int, hop_length: int) -> np.ndarray:
    """F0 of a recording by pYIN (Mauch & Dixon 2014).

    Args: wav, float32 (n,).
    Returns: float32 (n // hop_length + 1,), in Hz, 0 where there is no voice; frame t is centred
        on sample t · hop_length, as a mel's is.
    """
    frame_length = 1 << int(np.ceil(np.log2(SECONDS_OF_A_FRAME * sample_rate)))
    f0, is_voiced, _ = librosa.pyin(
        np.asarray(wav, dtype=np.float32),
        fmin=FMIN_HZ,
        fmax=FMAX_HZ,
        sr=sample_rate,
        frame_length=frame_length,
        hop_length=hop_length,
        resolution=SEMITONES,
    )
    return np.where(is_voiced, np.nan_to_num(f0), 0).astype(np.float32)


def range_of(contours: Sequence[np.ndarray]) -> PitchRange | None:
    """The range of the voice in contours (T,) of F0 in Hz; None where hardly any voice is heard."""
    f0 = np.concatenate([np.asarray(contour) for contour in contours])
    octaves = np.log2(f0[f0 > 0])
    if len(octaves) < MIN_VOICED_FRAMES:
        return None
    low, centre, high = np.percentile(octaves, [25, 50, 75])
    return PitchRange(float(centre), float(high - low) / IQR_OF_NORMAL)


def moved(f0: np.ndarray, source: PitchRange | None, target: PitchRange | None) -> np.ndarray:
    """A contour (T,) of the source's range in the target's: same normalised log-F0, same voicing.

    Where one of the ranges is not known the contour stays what it is.
    """
    if source is None or target is None:
        return f0
    octaves = np.log2(np.maximum(f0, FMIN_HZ))
    stretch = target.spread / max(source.spread, 1e-6)
    stretch = min(max(stretch, 1 / MAX_STRETCH), MAX_STRETCH)
    octaves = target.centre + (octaves - source.centre) * stretch
    return np.where(f0 > 0, np.exp2(octaves).clip(FMIN_HZ, FMAX_HZ), 0).astype(np.float32)
