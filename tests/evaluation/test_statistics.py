"""Means, intervals, thresholds and paired differences with known values."""

import numpy as np
import pytest

from vc_lightning.evaluation import statistics


def test_mean_and_confidence_interval():
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = statistics.figure(values)
    half = 1.96 * values.std() / 20  # of a normal mean
    assert found.n == 400
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.05)
    assert found.high == pytest.approx(values.mean() + half, abs=0.05)
    assert statistics.figure(values) == found


def test_weighted_mean_counts_words():
    found = statistics.figure([0.5, 0.0], [2, 8])
    assert found.mean == pytest.approx(0.1)
    assert (found.low, found.high) == (0.0, 0.5)


def test_interval_of_few_or_equal_values():
    assert statistics.figure([0.7]) == statistics.Figure(0.7, None, None, 1)
    with pytest.raises(ValueError, match="nothing to average"):
        statistics.figure([])
    assert statistics.figure([1.0, 1.0, 1.0]) == statistics.Figure(1.0, 1.0, 1.0, 3)


def test_threshold_separates_separable_scores():
    assert statistics.equal_error([0.9, 0.8], [0.5, 0.4, 0.3]) == pytest.approx((0.65, 0.0))


def test_threshold_has_equal_error_rates():
    same, different = [0.4, 0.7, 0.8, 0.9], [0.1, 0.2, 0.3, 0.75]
    threshold, rate = statistics.equal_error(same, different)
    assert rate == pytest.approx(0.25)
    assert 0.4 < threshold < 0.75
    assert statistics.equal_error([0.5], [0.5]) == pytest.approx((0.5, 0.5))
