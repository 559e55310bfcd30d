"""Scores of pitch with known values."""

import numpy as np
import pytest

from vc_lightning.evaluation.scorers import prosody
from vc_lightning.models import pitch_tracker


@pytest.fixture(scope="module")
def contour(speech):
    return pitch_tracker.track(speech[:48_000], 16_000, 256)


def test_identical_contours(contour):
    assert prosody.f0_correlation(contour, contour) == pytest.approx(1)
    assert prosody.voiced_agreement(contour, contour) == 1
    assert prosody.f0_distance(contour, contour) == 0


def test_contour_shifted_by_octave(contour):
    assert prosody.f0_distance(contour, 2 * contour) == pytest.approx(12, abs=1e-4)
    assert prosody.f0_correlation(contour, 2 * contour) == pytest.approx(1)
    assert prosody.f0_range(2 * contour) == pytest.approx(prosody.f0_range(contour), abs=1e-4)


def test_inverted_and_longer_contour(contour):
    mirrored = np.where(contour > 0, 100**2 / np.maximum(contour, 1), 0)
    longer = np.append(mirrored, 100)
    assert prosody.f0_correlation(contour, longer) == pytest.approx(-1, abs=1e-6)
    assert prosody.voiced_agreement(contour, longer) == 1


def test_pitch_range_of_two_tones():
    f0 = np.repeat([100.0, 200.0, 0.0], 20)
    assert prosody.f0_range(f0) == pytest.approx(6)  # half an octave to either side


def test_unvoiced_contours_have_no_figures():
    silent, flat, lively = np.zeros(50), np.full(50, 120.0), np.linspace(100, 200, 50)
    assert prosody.f0_correlation(silent, lively) is None
    assert prosody.f0_correlation(flat, lively) is None
    assert prosody.f0_range(silent) is None
    assert prosody.f0_distance(silent, lively) is None
    assert prosody.voiced_agreement(np.zeros(4), np.array([0, 100.0, 100.0, 0])) == 0.5
