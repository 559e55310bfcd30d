"""Metrics with known values."""

import numpy as np
import pytest

from vc_lightning.audio import pitch
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.evaluation import metrics


def test_mean_and_confidence_interval():
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = metrics.figure(values)
    half = 1.96 * values.std() / 20  # of a normal mean
    assert found.n == 400
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.05)
    assert found.high == pytest.approx(values.mean() + half, abs=0.05)
    assert metrics.figure(values) == found


def test_weighted_mean_counts_words():
    found = metrics.figure([0.5, 0.0], [2, 8])
    assert found.mean == pytest.approx(0.1)
    assert (found.low, found.high) == (0.0, 0.5)


def test_interval_of_few_or_equal_values():
    assert metrics.figure([0.7]) == metrics.Figure(0.7, None, None, 1)
    with pytest.raises(ValueError, match="nothing to average"):
        metrics.figure([])
    assert metrics.figure([1.0, 1.0, 1.0]) == metrics.Figure(1.0, 1.0, 1.0, 3)


def test_threshold_separates_separable_scores():
    assert metrics.equal_error([0.9, 0.8], [0.5, 0.4, 0.3]) == pytest.approx((0.65, 0.0))


def test_threshold_has_equal_error_rates():
    same, different = [0.4, 0.7, 0.8, 0.9], [0.1, 0.2, 0.3, 0.75]
    threshold, rate = metrics.equal_error(same, different)
    assert rate == pytest.approx(0.25)
    assert 0.4 < threshold < 0.75
    assert metrics.equal_error([0.5], [0.5]) == pytest.approx((0.5, 0.5))


@pytest.fixture(scope="module")
def contour(speech):
    return pitch.track(speech[:48_000], 16_000, 256)


def test_identical_contours(contour):
    assert metrics.f0_correlation(contour, contour) == pytest.approx(1)
    assert metrics.voiced_agreement(contour, contour) == 1
    assert metrics.f0_distance(contour, contour) == 0


def test_contour_shifted_by_octave(contour):
    assert metrics.f0_distance(contour, 2 * contour) == pytest.approx(12, abs=1e-4)
    assert metrics.f0_correlation(contour, 2 * contour) == pytest.approx(1)
    assert metrics.f0_range(2 * contour) == pytest.approx(metrics.f0_range(contour), abs=1e-4)


def test_inverted_and_longer_contour(contour):
    mirrored = np.where(contour > 0, 100**2 / np.maximum(contour, 1), 0)
    longer = np.append(mirrored, 100)
    assert metrics.f0_correlation(contour, longer) == pytest.approx(-1, abs=1e-6)
    assert metrics.voiced_agreement(contour, longer) == 1


def test_pitch_range_of_two_tones():
    f0 = np.repeat([100.0, 200.0, 0.0], 20)
    assert metrics.f0_range(f0) == pytest.approx(6)  # half an octave to either side


def test_unvoiced_contours_have_no_figures():
    silent, flat, lively = np.zeros(50), np.full(50, 120.0), np.linspace(100, 200, 50)
    assert metrics.f0_correlation(silent, lively) is None
    assert metrics.f0_correlation(flat, lively) is None
    assert metrics.f0_range(silent) is None
    assert metrics.f0_distance(silent, lively) is None
    assert metrics.voiced_agreement(np.zeros(4), np.array([0, 100.0, 100.0, 0])) == 0.5


def test_distortion_ignores_level_and_tempo(mel_settings, speech):
    mel = MelSpectrogram(**mel_settings).extract(speech, 16_000)
    assert metrics.mel_cepstral_distortion(mel, mel) == 0
    assert metrics.mel_cepstral_distortion(mel, mel + 0.1) == pytest.approx(0, abs=1e-4)
    assert metrics.mel_cepstral_distortion(mel, mel.repeat(2, axis=1)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("quefrency", "factor"), [(1, 1), (24, 1), (25, 0)])
def test_distortion_of_known_ripple(quefrency, factor):
    """c_m = 0.5 is a distortion of 10/ln 10 · √(2 · 0.5²) dB; 1 of ln|H| is 20/ln 10 dB of mel."""
    bands = (np.arange(80) + 0.5) / 80
    ripple = 0.5 * np.cos(np.pi * quefrency * bands) * 20 / np.log(10) / 100
    mel = np.full((80, 12), 0.5)
    expected = factor * 10 / np.log(10) * np.sqrt(2) * 0.5
    found = metrics.mel_cepstral_distortion(mel, mel + ripple[:, None])
    assert found == pytest.approx(expected, abs=1e-9)


def codes(means, n_each, seed=0):
    """Make codes (8, 6) around the mean of each speaker, and list their speakers."""
    rng = np.random.default_rng(seed)
    names = [f"s{index}" for index in range(len(means)) for _ in range(n_each)]
    means = np.repeat(means, n_each)
    return [mean + rng.standard_normal((8, 6)) for mean in means], names


def test_probe_separates_speakers():
    accuracy, chance = metrics.speaker_probe(*codes([0, 3, 6, 9], 4))
    assert accuracy.mean > 0.95
    assert (accuracy.n, chance) == (16, 0.25)


def test_probe_is_at_chance_on_noise():
    accuracy, chance = metrics.speaker_probe(*codes([0, 0, 0, 0], 20))
    assert accuracy.low < chance < accuracy.high


def test_probe_ignores_utterance_offsets():
    """Codes that identify utterances, but not speakers, must not count as leakage."""
    rng = np.random.default_rng(0)
    utterances = [
        10 * rng.standard_normal((8, 1)) + rng.standard_normal((8, 20)) for _ in range(40)
    ]
    accuracy, _ = metrics.speaker_probe(utterances, ["a", "b"] * 20)
    assert accuracy.mean < 0.75
