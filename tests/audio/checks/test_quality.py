import numpy as np
import pytest

from vc_lightning.audio import voice_activity
from vc_lightning.audio.checks import quality
from vc_lightning.audio.checks.quality import measure
from vc_lightning.audio.files import io

RATE = 16_000


def rms(wav):
    return np.sqrt(np.mean(np.square(wav, dtype=np.float64)))


def with_noise(speech, snr_db, noise):
    """Speech in noise at a level that is given over its voiced part."""
    mask = np.repeat(voice_activity.speech_windows(speech), voice_activity.VAD_WINDOW)
    level = rms(speech[: len(mask)][mask]) / rms(noise) / 10 ** (snr_db / 20)
    return (speech + level * noise).astype(np.float32)


@pytest.mark.parametrize("snr_db", [0, 5, 10, 15, 20, 25])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_snr_of_known_mixture(speech, other_speech, snr_db, offset):
    for wav in (speech, other_speech):
        noise = np.random.default_rng(0).standard_normal(len(wav))
        measured = measure(with_noise(wav, snr_db, noise) + np.float32(offset), RATE).snr_db
        assert measured == pytest.approx(snr_db, abs=2)


def test_snr_is_independent_of_level_and_rate(speech):
    wav = with_noise(speech, 20, np.random.default_rng(0).standard_normal(len(speech)))
    expected = measure(wav, RATE).snr_db
    assert measure(wav / 30, RATE).snr_db == pytest.approx(expected, abs=0.5)
    raised = io.resample(wav, RATE, 48_000)
    assert measure(raised, 48_000).snr_db == pytest.approx(expected, abs=0.5)


def test_snr_of_noise_and_silence(speech):
    noise = np.random.default_rng(0).standard_normal(RATE).astype("f4") / 10
    assert measure(noise, RATE).snr_db <= 5
    silence = np.zeros(RATE, "f4")
    assert measure(np.concatenate([silence, speech, silence]), RATE).snr_db == 80


@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_counts_clipped_samples(gain):
    sine = 2 * np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE)
    clipped = (gain * sine.clip(-1, 1)).astype("f4")
    assert quality.clipped_share(clipped) == pytest.approx((np.abs(sine) > 1).mean(), abs=0.01)
    halved = (gain * sine.clip(-9, 1)).astype("f4")  # of one side only, which is not the larger
    assert quality.clipped_share(halved) < 0.05


def test_single_peaks_are_not_clipping(speech, other_speech):
    loud = speech / np.abs(speech).max()
    raised = io.resample(loud, RATE, 48_000)
    for wav, rate in ((speech, RATE), (other_speech, RATE), (loud, RATE), (raised, 48_000)):
        assert measure(wav, rate).clipped < 1e-4
    assert quality.clipped_share(np.tile([1, 0, -1, 0, 0], 1_000)) == 0
    assert measure((4 * loud).clip(-1, 1), RATE).clipped > 1e-3


def test_length_peak_and_voiced_share(speech):
    silence = np.zeros(len(speech), "f4")
    alone = measure(speech, RATE)
    padded = measure(np.concatenate([silence, speech / 2, silence]), RATE)
    assert alone.voiced > 0.8
    assert padded.voiced == pytest.approx(alone.voiced / 3, abs=0.05)
    assert padded.seconds == pytest.approx(3 * alone.seconds, abs=0.002)
    assert padded.peak_dbfs == pytest.approx(alone.peak_dbfs - 6, abs=0.1)
    assert alone.peak_dbfs == pytest.approx(20 * np.log10(np.abs(speech).max()), abs=0.06)


@pytest.mark.parametrize("rate", [RATE, 22_050])
def test_known_speech_is_not_detected_again(speech, rate, monkeypatch):
    """The result is that of a detection; the level of a recording has detected the same."""
    wav = io.resample(with_noise(speech, 20, np.ones(len(speech))), RATE, rate)
    level = voice_activity.measure_level(wav, rate, -23.0)
    expected = measure(wav, rate)
    monkeypatch.delattr(voice_activity, "speech_windows")
    assert measure(wav, rate, level.speech) == expected
