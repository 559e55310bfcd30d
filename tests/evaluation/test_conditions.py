"""Changes of the sound under worse recording conditions."""

import numpy as np
import pytest

from vc_lightning.audio import voice_activity
from vc_lightning.audio.files import io as audio
from vc_lightning.evaluation import conditions
from vc_lightning.models import pitch_tracker


def test_levels(speech):
    changes = conditions.quieter, conditions.louder, conditions.clipped
    softer, higher, cut = (change(speech, 16_000) for change in changes)
    assert voice_activity.rms_dbfs(softer) == pytest.approx(
        voice_activity.rms_dbfs(speech) - 20, abs=1e-3
    )
    assert voice_activity.rms_dbfs(higher) == pytest.approx(
        voice_activity.rms_dbfs(speech) + 12, abs=1e-3
    )
    assert np.abs(higher).max() == pytest.approx(np.abs(speech).max() * 10**0.6, rel=1e-5)
    quarter = np.abs(speech) > np.abs(speech).max() * 10**-0.6
    assert 10 < quarter.sum() == (np.abs(cut) == 1).sum()
    below = ~quarter
    assert np.corrcoef(cut[below], speech[below])[0, 1] == pytest.approx(1, abs=1e-4)


def test_offset_and_hum(speech):
    peak = np.abs(speech).max()
    assert conditions.offset(speech, 16_000) - speech == pytest.approx(peak / 4, abs=1e-6)
    hum = conditions.humming(speech, 16_000) - speech
    assert voice_activity.rms_dbfs(hum) == pytest.approx(
        voice_activity.rms_dbfs(speech) - 20, abs=0.01
    )
    spectrum = np.abs(np.fft.rfft(hum[:16_000]))  # one bin a Hz
    assert set(np.argsort(spectrum)[-3:]) == {50, 100, 150}
    assert spectrum[100] / spectrum[50] == pytest.approx(0.5, abs=0.01)


def test_reverberation_time():
    click = np.zeros(16_000, dtype=np.float32)
    click[0] = 1
    wav = conditions.reverberant(0.5)(click, 16_000)
    assert wav[0] == pytest.approx(1, abs=1e-5)
    assert np.abs(wav[1:80]).max() < 1e-5  # 5 ms before the first echo
    assert np.square(wav[1:]).sum() == pytest.approx(1, abs=1e-3)  # as strong as the click
    early, late = (
        voice_activity.rms_dbfs(wav[at : at + 1_600]) for at in (800, 5_600)
    )  # 0.3 s apart
    assert early - late == pytest.approx(36, abs=1)
    assert np.abs(wav[8_000:]).max() < 1e-5


def test_telephone_is_band_limited():
    noise = np.random.default_rng(0).standard_normal(32_001).astype(np.float32)
    wav = conditions.telephone(noise, 16_000)
    spectrum = np.abs(np.fft.rfft(wav)) ** 2
    frequencies = np.fft.rfftfreq(len(wav), 1 / 16_000)
    assert len(wav) == len(noise)
    assert spectrum[frequencies > 4_100].sum() < 1e-4 * spectrum[frequencies < 3_500].sum()


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 22_050, 44_100])
def test_mp3_bit_rate(speech, sample_rate):
    wav = audio.resample(speech, 16_000, sample_rate)
    bits = 8 * len(conditions.mp3_bytes(wav, sample_rate))
    assert bits / (len(wav) / sample_rate) == pytest.approx(64_000, rel=0.06)  # head and tail


def test_mp3_resembles_source(speech):
    decoded = conditions.mp3(speech, 16_000)
    assert decoded.shape == speech.shape
    assert 0.95 < np.corrcoef(decoded, speech)[0, 1] < 0.999999


@pytest.mark.parametrize("snr_db", [20, 5])
def test_pink_noise_has_its_level_and_colour(speech, snr_db):
    noise = conditions.noisy(snr_db)(speech, 16_000) - speech
    ratio = voice_activity.rms_dbfs(speech) - voice_activity.rms_dbfs(noise)
    assert ratio == pytest.approx(snr_db, abs=0.01)
    power = np.abs(np.fft.rfft(noise)) ** 2
    octaves = [power[n : 2 * n].sum() for n in (1_000, 4_000, 16_000)]
    assert octaves == pytest.approx([octaves[0]] * 3, rel=0.2)


def test_whispering_has_no_pitch_but_the_envelope(speech):
    wav = conditions.whispered(speech, 16_000)
    contours = [pitch_tracker.track(one, 16_000, 256) for one in (speech, wav)]
    voiced, whispered = (np.mean(contour > 0) for contour in contours)
    assert whispered < 0.1 < 0.4 < voiced
    levels = [np.square(one[: 400 * 200].reshape(200, 400)).mean(axis=1) for one in (speech, wav)]
    assert np.corrcoef(*np.log(np.array(levels) + 1e-9))[0, 1] > 0.8


@pytest.mark.parametrize("level", [0, -10])
def test_second_speaker_has_level(speech, other_speech, level):
    other = conditions.with_second_speaker(speech, other_speech[:30_000], level) - speech
    difference = voice_activity.rms_dbfs(other) - voice_activity.rms_dbfs(speech)
    assert difference == pytest.approx(level, abs=0.01)
    assert other[30_000:40_000] == pytest.approx(other[:10_000], abs=1e-5)
