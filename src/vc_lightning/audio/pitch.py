"""Pitch: estimate the range of a voice, and move a contour to another range."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FMIN_HZ = 60
FMAX_HZ = 500
MAX_STRETCH = 1.5  # of a contour, because the spread in one recording is an uncertain estimate
IQR_OF_NORMAL = 1.349  # interquartile range of a normal distribution, in standard deviations
MIN_VOICED_FRAMES = 10


@dataclass(frozen=True)
class PitchRange:
    """The pitch range of a voice.

    Attributes:
        centre: Median of log2 F0 in Hz.
        spread: Standard deviation of log2 F0 in octaves, estimated from the quartiles, which
            outliers of the tracker (creak, noise) do not change much.
    """

    centre: float
    spread: float


def resample_contour(f0: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Interpolate a contour.

    Log-F0 is interpolated between two voiced frames; elsewhere the nearest frame is taken.

    Args:
        f0: Contour (T,) in Hz, 0 in unvoiced frames.
        positions: Positions (N,), in frames of the contour.

    Returns:
        F0 in Hz, float32 (N,).
    """
    positions = np.clip(positions, 0, len(f0) - 1)
    before = np.floor(positions).astype(int)
    after = np.minimum(before + 1, len(f0) - 1)
    share = positions - before
    nearest = np.where(share < 0.5, f0[before], f0[after])
    octaves = np.log2(np.maximum(f0, FMIN_HZ))
    between = np.exp2((1 - share) * octaves[before] + share * octaves[after])
    is_voiced = (f0[before] > 0) & (f0[after] > 0)
    return np.where(is_voiced, between, nearest).astype(np.float32)


def range_of(contours: Sequence[np.ndarray]) -> PitchRange | None:
    """Return the range of the voice in contours (T,) of F0 in Hz, or None if little is voiced."""
    f0 = np.concatenate([np.asarray(contour) for contour in contours])
    octaves = np.log2(f0[f0 > 0])
    if len(octaves) < MIN_VOICED_FRAMES:
        return None
    low, centre, high = np.percentile(octaves, [25, 50, 75])
    return PitchRange(float(centre), float(high - low) / IQR_OF_NORMAL)


def moved(f0: np.ndarray, source: PitchRange | None, target: PitchRange | None) -> np.ndarray:
    """Move a contour from one voice's range to another's, with the same normalised log-F0.

    Args:
        f0: Contour (T,) in Hz, 0 in unvoiced frames.
        source: Range of the voice in the contour; None if unknown.
        target: Range to move to; None if unknown. With an unknown range nothing changes.
    """
    if source is None or target is None:
        return f0
    octaves = np.log2(np.maximum(f0, FMIN_HZ))
    stretch = target.spread / max(source.spread, 1e-6)
    stretch = min(max(stretch, 1 / MAX_STRETCH), MAX_STRETCH)
    octaves = target.centre + (octaves - source.centre) * stretch
    return np.where(f0 > 0, np.exp2(octaves).clip(FMIN_HZ, FMAX_HZ), 0).astype(np.float32)
