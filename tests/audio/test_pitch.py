"""The arithmetic of pitch contours and ranges."""

import numpy as np
import pytest

from vc_lightning.audio import pitch


def test_resampling_takes_nearest_at_voicing_edges() -> None:
    f0 = np.array([100, 200, 0, 0], np.float32)
    resampled = pitch.resample_contour(f0, np.array([0, 0.5, 1.4, 1.6, 9]))
    np.testing.assert_allclose(resampled, [100, 100 * 2**0.5, 200, 0, 0], rtol=1e-6)


def test_moved_contour_has_target_range() -> None:
    f0 = np.array([0, 100, 110, 120, 0, 130, 115, 105, 125, 118, 101, 111, 108, 0], np.float32)
    source = pitch.range_of([f0])
    target = pitch.PitchRange(np.log2(220), 1.3 * source.spread)
    moved = pitch.moved(f0, source, target)
    found = pitch.range_of([moved])
    assert np.array_equal(moved > 0, f0 > 0)
    assert found.centre == pytest.approx(target.centre)
    assert found.spread == pytest.approx(target.spread)
    assert np.allclose(pitch.moved(moved, target, source), f0, rtol=1e-4)


def test_unknown_range_changes_nothing() -> None:
    f0 = np.array([0, 100, 0], np.float32)
    assert pitch.range_of([f0]) is None
    assert pitch.moved(f0, None, pitch.PitchRange(7, 0.1)) is f0


def test_stretch_of_contour_is_limited():
    f0 = np.geomspace(100, 130, 30).astype(np.float32)
    source = pitch.range_of([f0])
    wild = pitch.moved(f0, source, pitch.PitchRange(source.centre, 10 * source.spread))
    assert pitch.range_of([wild]).spread == pytest.approx(1.5 * source.spread)
    monotone = pitch.range_of([np.full(30, 150.0)])
    assert np.isfinite(pitch.moved(f0, monotone, source)).all()


def test_range_is_robust_to_creak():
    f0 = np.geomspace(180, 220, 100)
    creaky = np.concatenate([f0, np.full(10, 60.0)])
    clean, found = pitch.range_of([f0]), pitch.range_of([creaky])
    assert found.centre == pytest.approx(clean.centre, abs=0.03)
    assert found.spread < 1.5 * clean.spread
