"""Score the pitch of conversions against that of sources and targets."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vc_lightning.audio.pitch import MIN_VOICED_FRAMES
from vc_lightning.evaluation.progress import show_progress
from vc_lightning.evaluation.scores import ScoredConversion
from vc_lightning.models import pitch_tracker

SEMITONES_OF_AN_OCTAVE = 12


def score(
    conversions: Sequence[ScoredConversion],
    contours: Mapping[Path, np.ndarray],
    sample_rate: int,
    hop_length: int,
) -> None:
    """Set the scores of F0.

    Args:
        conversions: The conversions.
        contours: F0 (T,) in Hz of all recordings of their pairs, see `pitch_tracker.track`.
        sample_rate: Sample rate of the conversions in Hz.
        hop_length: Samples between two frames of the contours.
    """
    for conversion in show_progress(conversions, "prosody"):
        pair, scores = conversion.pair, conversion.scores
        source = contours[pair.source]
        target = np.concatenate([contours[path] for path in (*pair.voice, pair.target_reference)])
        after = pitch_tracker.track(conversion.sounds.conversion, sample_rate, hop_length)
        scores["prosody/correlation"] = f0_correlation(source, after)
        scores["prosody/voiced_agreement"] = voiced_agreement(source, after)
        scores["prosody/range_source"] = f0_range(source)
        scores["prosody/range_conversion"] = f0_range(after)
        scores["prosody/range_target"] = f0_range(target)
        scores["prosody/distance_before"] = f0_distance(source, target)
        scores["prosody/distance"] = f0_distance(after, target)


def f0_correlation(f0: np.ndarray, other: np.ndarray) -> float | None:
    """Compute the Pearson correlation of log-F0 in frames where both contours are voiced.

    Args:
        f0: Contour (T,) in Hz, 0 where unvoiced.
        other: Contour to compare with; the longer one is cut.

    Returns:
        The correlation; None with fewer than `MIN_VOICED_FRAMES` such frames, or a constant F0.
    """
    f0, other = _cut(f0, other)
    voiced = (f0 > 0) & (other > 0)
    if voiced.sum() < MIN_VOICED_FRAMES:
        return None
    logs = np.log(f0[voiced]), np.log(other[voiced])
    if min(np.ptp(log) for log in logs) < 1e-6:
        return None
    return float(np.corrcoef(*logs)[0, 1])


def voiced_agreement(f0: np.ndarray, other: np.ndarray) -> float:
    """Compute the share of frames that are voiced in both F0 contours (T,) or in neither."""
    f0, other = _cut(f0, other)
    return float(np.mean((f0 > 0) == (other > 0)))


def f0_range(f0: np.ndarray) -> float | None:
    """Compute the standard deviation of log-F0 in semitones; see `f0_distance`."""
    voiced = f0[f0 > 0]
    if len(voiced) < MIN_VOICED_FRAMES:
        return None
    return float(SEMITONES_OF_AN_OCTAVE * np.log2(voiced).std())


def f0_distance(f0: np.ndarray, other: np.ndarray) -> float | None:
    """Compute the distance between two median F0s in semitones.

    Args:
        f0: Contour (T,) in Hz, 0 where unvoiced.
        other: Contour to compare with, of any length.

    Returns:
        The distance; None if a contour has fewer than `MIN_VOICED_FRAMES` voiced frames.
    """
    voiced = [contour[contour > 0] for contour in (f0, other)]
    if min(len(contour) for contour in voiced) < MIN_VOICED_FRAMES:
        return None
    medians = [np.median(contour) for contour in voiced]
    return float(SEMITONES_OF_AN_OCTAVE * abs(np.log2(medians[0] / medians[1])))


def _cut(f0: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut two contours, which may differ by a frame, to the length of the shorter one."""
    length = min(len(f0), len(other))
    return f0[:length], other[:length]
