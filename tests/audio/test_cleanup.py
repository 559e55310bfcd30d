"""Noise, silence and loudness."""

import importlib.util
import logging
import math

import numpy as np
import pyloudnorm
import pytest

from vc_lightning.audio import cleanup, spill_buffer, voice_activity
from vc_lightning.audio.files import io
from vc_lightning.common.errors import InputError

RATE = 16_000


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).standard_normal(60 * RATE).astype(np.float32)


def at_snr(wav, noise, decibels):
    noise = noise[: len(wav)]
    return wav + voice_activity.amplify(
        noise, voice_activity.rms_dbfs(wav) - voice_activity.rms_dbfs(noise) - decibels
    )


def snr(wav, reference):
    """Signal to noise in dB of wav."""
    return voice_activity.rms_dbfs(reference) - voice_activity.rms_dbfs(wav - reference)


@pytest.mark.parametrize("sample_rate", [16_000, 22_050, 48_000])
def test_denoising_removes_noise_without_delay(speech, noise, sample_rate):
    clean = io.resample(speech, RATE, sample_rate)
    noisy = at_snr(clean, np.resize(noise, len(clean)), 5)
    result = cleanup.denoised(noisy, sample_rate)
    assert result.shape == clean.shape
    assert result.dtype == np.float32
    assert snr(noisy, clean) == pytest.approx(5, abs=0.1)
    assert snr(result, clean) > 10  # late by half a millisecond it would be -1


def test_denoising_keeps_clean_speech(speech):
    assert snr(cleanup.denoised(speech, RATE), speech) > 12


def test_denoising_does_not_depend_on_blocks_or_level(speech, noise, monkeypatch):
    noisy = at_snr(speech, noise, 10)
    whole = cleanup.denoised(noisy, RATE)
    quiet = cleanup.denoised(noisy * np.float32(1e-3), RATE)
    np.testing.assert_allclose(quiet * 1e3, whole, atol=2e-3)
    monkeypatch.setattr(spill_buffer.blocks, "__defaults__", (7_001,))
    np.testing.assert_allclose(cleanup.denoised(noisy, RATE), whole, atol=2**-14)


def test_denoising_keeps_silence():
    assert not cleanup.denoised(np.zeros(RATE, np.float32), RATE).any()


@pytest.mark.parametrize("sample_rate", [16_000, 22_050])
def test_trims_silence_at_ends(speech, sample_rate):
    clean = io.resample(speech, RATE, sample_rate)
    silence = np.zeros(2 * sample_rate, np.float32)
    result = cleanup.trimmed(np.concatenate([silence, clean, silence]), sample_rate)
    alone = cleanup.trimmed(clean, sample_rate)
    assert abs(len(result) - len(alone)) < 0.4 * sample_rate
    assert len(result) < len(clean) + 0.4 * sample_rate
    energy = np.square(result).sum()
    assert energy == pytest.approx(np.square(clean).sum(), rel=1e-3)  # nothing said is lost


def test_trimming_keeps_pauses(speech):
    pause = np.zeros(2 * RATE, np.float32)
    result = cleanup.trimmed(np.concatenate([speech, pause, speech]), RATE)
    assert len(result) > 1.8 * len(speech) + 2 * RATE


def test_trimming_keeps_recording_without_speech():
    hum = np.sin(np.arange(RATE) * 0.02).astype(np.float32) * 1e-3
    assert len(cleanup.trimmed(hum, RATE)) == RATE


def test_clean_combines_steps(speech, noise):
    noisy = np.concatenate([np.zeros(2 * RATE, np.float32), at_snr(speech, noise, 10)])
    assert cleanup.clean(noisy, RATE, False, False) is noisy
    np.testing.assert_array_equal(
        cleanup.clean(noisy, RATE, True, True),
        cleanup.trimmed(cleanup.denoised(noisy, RATE), RATE),
    )
    np.testing.assert_array_equal(
        cleanup.clean(noisy, RATE, False, True), cleanup.trimmed(noisy, RATE)
    )


@pytest.mark.parametrize("sample_rate", [16_000, 22_050, 11_025])
@pytest.mark.parametrize("seconds", [0.4, 6.05, 60.2, 61.25, 62.0, 131.7])
def test_loudness_in_pieces_equals_whole(speech, sample_rate, seconds):
    wav = np.resize(io.resample(speech, RATE, sample_rate), round(seconds * sample_rate))
    wav = wav * np.linspace(0.001, 1, len(wav), dtype=np.float32)  # so that both gates count
    whole = pyloudnorm.Meter(sample_rate).integrated_loudness(wav.astype(np.float64))
    assert cleanup.loudness(wav, sample_rate) == pytest.approx(whole, abs=0.005)


def test_loudness_of_constant_offset():
    """The meter's filters settle before what is counted of a piece begins."""
    wav = np.sin(np.arange(150 * RATE) * 0.3).astype(np.float32) * np.float32(1e-3) + 0.3
    whole = pyloudnorm.Meter(RATE).integrated_loudness(wav.astype(np.float64))
    assert cleanup.loudness(wav, RATE) == pytest.approx(whole, abs=0.005)


def test_loudness_of_sine():
    """ITU-R BS.1770-4, annex 1: 997 Hz at full scale in one channel has -3.01 LUFS."""
    wav = np.sin(2 * np.pi * 997 * np.arange(5 * 48_000) / 48_000).astype(np.float32)
    assert cleanup.loudness(wav, 48_000) == pytest.approx(-3.01, abs=0.05)


def test_sets_loudness(speech):
    result = cleanup.normalize_loudness(speech, RATE, -30)
    assert cleanup.loudness(result, RATE) == pytest.approx(-30, abs=0.01)
    ratio = result / np.where(speech == 0, 1, speech)
    assert np.ptp(ratio[np.abs(speech) > 0.01]) < 1e-4  # a gain, nothing else


def test_peaks_limit_loudness_with_warning(speech, caplog):
    with caplog.at_level(logging.WARNING):
        result = cleanup.normalize_loudness(speech, RATE, -3)
    assert np.abs(result).max() == pytest.approx(10 ** (-1 / 20), rel=1e-4)
    assert f"set to {cleanup.loudness(result, RATE):.1f} LUFS, the most that" in caplog.text


def test_silence_has_no_loudness():
    silence = np.full(RATE, 1e-6, np.float32)
    assert cleanup.loudness(silence, RATE) == -math.inf
    assert cleanup.normalize_loudness(silence, RATE, -23) is silence
    with pytest.raises(InputError, match=r"0\.10 s are too short to measure"):
        cleanup.loudness(silence[:1600], RATE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((1, False, None), "cleanup.denoise=1: give true or false"),
        ((False, "yes", None), "cleanup.trim=yes: give true or false"),
        ((False, False, 3), "cleanup.loudness=3: give a number from -70"),
        ((False, False, "loud"), "cleanup.loudness=loud: give a number from -70"),
    ],
)
def test_refuses_bad_settings(settings, message):
    cleanup.require_settings(True, True, -23)
    with pytest.raises(InputError, match=message):
        cleanup.require_settings(*settings)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    cleanup.require_settings(False, True, None)
    with pytest.raises(InputError, match=r"pyrnnoise is not installed; .*vc-lightning\[cleanup\]"):
        cleanup.require_settings(True, False, None)
    with pytest.raises(InputError, match=r"pyloudnorm is not installed; .*vc-lightning\[cleanup\]"):
        cleanup.require_settings(False, False, -23.0)
