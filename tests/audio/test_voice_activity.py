import itertools

import numpy as np
import pytest

from vc_lightning.audio import voice_activity
from vc_lightning.audio.files import io
from vc_lightning.common.errors import InputError

RATE = 16_000


def test_voiced_mask_tells_speech_from_silence(speech):
    noise = 1e-4 * np.random.default_rng(0).standard_normal(3 * RATE).astype("f4")
    mask = voice_activity.voiced_mask(np.concatenate([noise, speech, noise]))
    assert mask[: 2 * RATE].mean() == 0
    assert mask[3 * RATE + 8000 : 3 * RATE + 72_000].mean() > 0.7


def test_voiced_mask_clips_loud_samples(speech):
    loud = 20 * speech
    np.testing.assert_array_equal(
        voice_activity.voiced_mask(loud), voice_activity.voiced_mask(loud.clip(-1, 1))
    )


def test_voiced_mask_is_dilated(monkeypatch):
    flags = iter([False] * 20 + [True] * 9 + [False] * 20)

    class Detector:
        def __init__(self, mode):
            pass

        def is_speech(self, window, sample_rate):
            return next(flags)

    monkeypatch.setattr(voice_activity.webrtcvad, "Vad", Detector)
    mask = voice_activity.voiced_mask(np.ones(49 * voice_activity.VAD_WINDOW, "f4"))
    marked = np.flatnonzero(mask.reshape(49, -1).all(axis=1))
    # Five of the windows −3…+4 are speech from window 20 on and up to 27.
    np.testing.assert_array_equal(marked, np.arange(20 - 3, 27 + 3 + 1))


def test_voiced_mask_of_short_recording():
    assert len(voice_activity.voiced_mask(np.ones(100, "f4"))) == 0


@pytest.mark.parametrize("gain", [0.03, 0.3, 3.0])
def test_level_is_independent_of_loudness(speech, gain):
    reference = voice_activity.level(speech, RATE, -24)
    np.testing.assert_allclose(voice_activity.level(gain * speech, RATE, -24), reference, atol=1e-4)


def test_level_sets_power_of_speech(speech):
    wav = voice_activity.level(speech, RATE, -24)
    at_detector_level = voice_activity.amplify(
        wav, voice_activity.VAD_LEVEL_DBFS - voice_activity.rms_dbfs(wav)
    )
    mask = voice_activity.voiced_mask(at_detector_level)
    assert voice_activity.rms_dbfs(wav[: len(mask)][mask]) == pytest.approx(-24, abs=0.01)


def test_level_refuses_recordings_without_speech():
    with pytest.raises(InputError, match="no speech"):
        voice_activity.level(
            1e-3 * np.random.default_rng(0).standard_normal(RATE).astype("f4"), RATE, -24
        )


@pytest.mark.parametrize(("rate", "max_seconds"), [(16_000, 8), (16_000, 12.5), (44_100, 8)])
def test_splits_long_recordings_at_pauses(speech, other_speech, rate, max_seconds):
    sentences = [speech[:80_000], other_speech[:70_000], speech[20_000:90_000]] * 2
    pause = np.zeros(12_000, "f4")
    wav = np.concatenate([part for sentence in sentences for part in (sentence, pause)])
    wav = io.resample(wav, RATE, rate)
    pieces = voice_activity.cut_at_pauses(wav, rate, max_seconds)
    assert len(pieces) >= 3
    assert pieces[0][0] == 0
    assert pieces[-1][1] == len(wav)
    for (_, stop), (start, _) in itertools.pairwise(pieces):
        assert start == stop
        assert np.abs(wav[start - rate // 10 : start + rate // 10]).max() < 1e-3
    assert all(0 < stop - start <= max_seconds * rate + 1 for start, stop in pieces)


def test_splits_at_quietest_moment_without_pauses(monkeypatch):
    monkeypatch.setattr(
        voice_activity, "speech_windows", lambda wav: np.ones(len(wav) // 480, bool)
    )
    wav = np.random.default_rng(0).standard_normal(10 * RATE).astype("f4")
    wav[2 * RATE : 2 * RATE + 1_000] *= 0.01  # too early: the pieces would be short
    wav[7 * RATE : 7 * RATE + 1_000] *= 0.1
    wav[9 * RATE + 1_000 : 9 * RATE + 2_000] *= 0.01  # too late
    (start, cut), (again, stop) = voice_activity.cut_at_pauses(wav, RATE, 9)
    assert (start, again, stop) == (0, cut, len(wav))
    assert 7 * RATE - 480 <= cut <= 7 * RATE + 1_000


def test_short_recording_is_one_segment(speech):
    assert voice_activity.cut_at_pauses(speech, RATE, len(speech) / RATE) == [(0, len(speech))]
