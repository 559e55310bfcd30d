"""The pitch tracker against tones of known pitch, and against the published package."""

import librosa
import numpy as np
import pytest
from swift_f0 import SwiftF0
from torch.utils.data import DataLoader, Dataset

from vc_lightning.audio import pitch
from vc_lightning.models import pitch_tracker

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
    f0 = pitch_tracker.track(wav, RATE, HOP)
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
    f0 = pitch_tracker.track(wav, rate, hop)
    assert len(f0) == len(wav) // hop + 1
    expected = np.geomspace(100, 200, len(wav))[::hop]
    inner = slice(6, len(expected) - 6)
    assert (f0[inner] > 0).mean() > 0.95
    error = np.abs(np.log2(f0[inner] / expected[inner])) * 12
    assert error.max() < 0.5


def test_long_recording_equals_its_parts() -> None:
    wav = np.concatenate([glide(120, 180, 20)] * 2)  # more than the tracker looks at once
    f0 = pitch_tracker.track(wav, RATE, HOP)
    whole, part = f0[1400 : 1400 + 300], pitch_tracker.track(wav[1300 * HOP :], RATE, HOP)[100:400]
    assert (whole > 0).mean() > 0.9
    np.testing.assert_allclose(whole, part, rtol=1e-3)


class Tracked(Dataset):
    """Contours of one recording."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> np.ndarray:
        return pitch_tracker.track(glide(120, 180, 1), RATE, HOP)


def test_works_in_forked_data_worker() -> None:
    expected = Tracked()[0]
    loader = DataLoader(Tracked(), batch_size=None, num_workers=1, multiprocessing_context="fork")
    (found,) = loader
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_equals_the_published_tracker(speech, other_speech, monkeypatch) -> None:
    monkeypatch.setattr(pitch_tracker, "has_bfloat16_products", lambda: False)
    tracker = pitch_tracker.load.__wrapped__()
    monkeypatch.setattr(pitch_tracker, "load", lambda: tracker)
    in_vowel = speech[: np.flatnonzero(published(speech))[-5] * HOP]
    for wav in (speech, np.tile(other_speech, 4), in_vowel, speech[: 5 * HOP + 7], speech[:100]):
        expected = published(wav)
        found = pitch_tracker.track(wav, RATE, HOP)[: len(expected)]
        assert np.array_equal(found > 0, expected > 0)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_bfloat16_changes_little(speech, other_speech, monkeypatch) -> None:
    monkeypatch.setattr(pitch_tracker, "has_bfloat16_products", lambda: True)
    tracker = pitch_tracker.load.__wrapped__()
    monkeypatch.setattr(pitch_tracker, "load", lambda: tracker)
    wav = np.concatenate([speech, other_speech])
    expected = published(wav)
    found = pitch_tracker.track(wav, RATE, HOP)[: len(expected)]
    assert np.mean((found > 0) != (expected > 0)) < 0.005
    both = (found > 0) & (expected > 0)
    cents = 1200 * np.abs(np.log2(found[both] / expected[both]))
    assert both.sum() > 300
    assert 0 < np.median(cents) < 0.5
    assert np.percentile(cents, 99) < 3


def published(wav: np.ndarray) -> np.ndarray:
    """Track F0 by the published package -> (T,) in Hz, 0 in unvoiced frames."""
    found = SwiftF0(threads=1).detect(wav, RATE, fmin=pitch.FMIN_HZ, fmax=pitch.FMAX_HZ)
    return np.where(found.confidence >= pitch_tracker.VOICED, found.pitch_hz, 0)


def test_noise_and_silence_are_unvoiced() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    assert (pitch_tracker.track(noise, RATE, HOP) > 0).mean() < 0.1
    assert not pitch_tracker.track(np.zeros(RATE, np.float32), RATE, HOP).any()
