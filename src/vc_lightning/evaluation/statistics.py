"""Statistics of scores: means with intervals, thresholds of verification, paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn.metrics import roc_curve

CONFIDENCE = 0.95
N_RESAMPLES = 2_000
MAX_RESAMPLED = 1_000_000  # resampled values in memory at a time


@dataclass(frozen=True)
class Figure:
    """A mean with its 95 % bootstrap interval.

    Attributes:
        mean: The mean.
        low: Lower end of the interval; None for a single value.
        high: Upper end of the interval; None for a single value.
        n: Number of values.
    """

    mean: float
    low: float | None
    high: float | None
    n: int


def figure(values: Sequence[float], weights: Sequence[float] | None = None) -> Figure:
    """Compute a weighted mean with its 95 % percentile bootstrap interval (Efron 1979).

    Args:
        values: The values.
        weights: Weight of each value, such as the number of words of an error rate; None for equal
            weights.

    Raises:
        ValueError: There are no values, or all weights are 0.
    """
    bases = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
    if not bases.sum() > 0:
        raise ValueError("there is nothing to average")
    amounts = np.asarray(values, dtype=float) * bases
    mean = float(amounts.sum() / bases.sum())
    if len(values) < 2:
        return Figure(mean, None, None, len(values))
    found = stats.bootstrap(
        (amounts, bases),
        lambda amounts, bases, axis: amounts.sum(axis) / bases.sum(axis),
        paired=True,
        n_resamples=N_RESAMPLES,
        batch=max(1, MAX_RESAMPLED // len(values)),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    interval = found.confidence_interval
    return Figure(mean, float(interval.low), float(interval.high), len(values))


def equal_error(same: Sequence[float], different: Sequence[float]) -> tuple[float, float]:
    """Find the threshold at which both error rates of speaker verification are equal.

    Args:
        same: Scores of pairs of one speaker, at least one; higher means more alike.
        different: Scores of pairs of two speakers, at least one.

    Returns:
        The threshold, halfway between two scores, and the mean of both error rates there.
    """
    labels = np.repeat([1, 0], [len(same), len(different)])
    curve = roc_curve(labels, np.concatenate([same, different]), drop_intermediate=False)
    accepted, recognised, thresholds = (values[::-1] for values in curve)  # ascending
    rejected = 1 - recognised
    differences = np.abs(rejected - accepted)[1:-1]  # without thresholds that accept all or none
    best = 1 + int(np.argmin(differences)) if len(differences) else 0  # 0: all scores are equal
    middle = thresholds[max(best - 1, 0) : best + 1].mean()
    return float(middle), float((rejected[best] + accepted[best]) / 2)


@dataclass(frozen=True)
class Verification:
    """Similarities of pairs of real recordings, and the threshold that separates them.

    Attributes:
        same: Similarities of pairs of one speaker.
        different: Similarities of pairs of two speakers.
        threshold: Similarity with equal error rates; a conversion at or above it is accepted.
        error_rate: Equal error rate, the share of either kind on the wrong side of the threshold.
    """

    same: list[float]
    different: list[float]
    threshold: float
    error_rate: float
