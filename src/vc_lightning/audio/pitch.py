"""Pitch: track F0, estimate the range of a voice, and move a contour to another range."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from swift_f0 import SwiftF0

FMIN_HZ = 60
FMAX_HZ = 500
TRACKER_SAMPLE_RATE = 16_000
TRACKER_HOP_LENGTH = 256
TRACKER_PAST_FRAMES = 11  # receptive field before a frame
TRACKER_AHEAD_FRAMES = 10  # and after it
VOICED_CONFIDENCE = 0.5  # the threshold for which the tracker is calibrated
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


def tracker_name() -> str:
    """Return the name and version of the pitch tracker, such as "swift-f0 0.3.0".

    Cached features carry it, so that contours of two trackers are never mixed.
    """
    return f"swift-f0 {version('swift-f0')}"


def load() -> None:
    """Load the tracker, so that the first call of `track` does not."""
    _tracker()


def track(wav: np.ndarray, sample_rate: int, hop_length: int) -> np.ndarray:
    """Track F0 with SwiftF0 (Nieradzik 2025, arXiv 2508.18440), in constant memory.

    Args:
        wav: Samples, float32 (n,), of any length.
        sample_rate: In Hz.
        hop_length: Samples between two frames of the result.

    Returns:
        F0 in Hz, float32 (n // hop_length + 1,), 0 in unvoiced frames. Frame t is centred on sample
        t · hop_length, as in a mel.
    """
    found = _tracker().detect(
        np.asarray(wav, dtype=np.float32), sample_rate, fmin=FMIN_HZ, fmax=FMAX_HZ
    )
    f0 = np.where(found.confidence >= VOICED_CONFIDENCE, found.pitch_hz, 0).astype(np.float32)
    n_frames = len(wav) // hop_length + 1
    if (sample_rate, hop_length) == (TRACKER_SAMPLE_RATE, TRACKER_HOP_LENGTH):
        return np.pad(f0, (0, n_frames - len(f0)), mode="edge")
    seconds = np.arange(n_frames) * hop_length / sample_rate
    return resample_contour(f0, seconds * TRACKER_SAMPLE_RATE / TRACKER_HOP_LENGTH)


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


@functools.cache
def _tracker() -> "SwiftF0":
    """Return the tracker, loaded once per process.

    It gets one thread: that is enough, and a process without a thread pool may be forked.
    """
    from swift_f0 import SwiftF0  # imports ONNX Runtime, which is slow

    return SwiftF0(threads=1, spin=False)


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
