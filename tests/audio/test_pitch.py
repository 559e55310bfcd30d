"""Pitch contours against tones of known pitch, and the arithmetic of ranges."""

import multiprocessing

import librosa
import numpy as np
import pytest

from vc_lightning.audio import pitch

RATE = 16_000
HOP = 256


def glide(start_hz: float, stop_hz: float, seconds: float) -> np.ndarray:
    """A voice-like tone of twenty harmonics whose pitch moves in octaves."""
    f0 = np.geomspace(start_hz, stop_hz, int(seconds * RATE))
    phase = 2 * np.pi * np.cumsum(f0) / RATE
    return 0.1 * sum(np.sin(k * phase) / k for k in range(1, 20)).astype(np.float32)


@pytest.mark.parametrize(("start", "stop"), [(100, 100), (90, 180), (380, 240)])
def test_tracks_glide(start: float, stop: float) -> None:
    wav = glide(start, stop, 1.5)
    f0 = pitch.track(wav, RATE, HOP)
    assert f0.dtype == np.float32
    assert len(f0) == len(wav) // HOP + 1
    expected = np.geomspace(start, stop, len(wav))[::HOP]
    inner = slice(4, -4)
    assert (f0[inner] > 0).mean() > 0.9
    voiced = f0[inner] > 0
    error = np.abs(np.log2(f0[inner] / expected[: len(f0)][inner]))[voiced] * 12
    assert error.max() < 0.5  # semitones


@pytest.mark.parametrize(("rate", "hop"), [(22_050, 275), (48_000, 512), (16_000, 200)])
def test_resampling_interpolates_log_f0(rate: int, hop: int) -> None:
    wav = librosa.resample(glide(100, 200, 1.5), orig_sr=RATE, target_sr=rate)
    f0 = pitch.track(wav, rate, hop)
    assert len(f0) == len(wav) // hop + 1
    expected = np.geomspace(100, 200, len(wav))[::hop]
    inner = slice(6, len(expected) - 6)
    assert (f0[inner] > 0).mean() > 0.95
    error = np.abs(np.log2(f0[inner] / expected[inner])) * 12
    assert error.max() < 0.5


def test_resampling_takes_nearest_at_voicing_edges() -> None:
    f0 = np.array([100, 200, 0, 0], np.float32)
    resampled = pitch.resample_contour(f0, np.array([0, 0.5, 1.4, 1.6, 9]))
    np.testing.assert_allclose(resampled, [100, 100 * 2**0.5, 200, 0, 0], rtol=1e-6)


def test_long_recording_equals_its_parts() -> None:
    wav = np.concatenate([glide(120, 180, 20)] * 2)  # more than the tracker looks at once
    f0 = pitch.track(wav, RATE, HOP)
    whole, part = f0[1400 : 1400 + 300], pitch.track(wav[1300 * HOP :], RATE, HOP)[100:400]
    assert (whole > 0).mean() > 0.9
    np.testing.assert_allclose(whole, part, rtol=1e-3)


def test_works_in_forked_process() -> None:
    wav = glide(120, 180, 1)
    expected = pitch.track(wav, RATE, HOP)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.apply_async(pitch.track, (wav, RATE, HOP)).get(timeout=60)
    assert np.array_equal(found, expected)


def test_noise_and_silence_are_unvoiced() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    assert (pitch.track(noise, RATE, HOP) > 0).mean() < 0.1
    assert not pitch.track(np.zeros(RATE, np.float32), RATE, HOP).any()


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
