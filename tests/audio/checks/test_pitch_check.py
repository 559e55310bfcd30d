"""The warning for recordings in which hardly any pitch is found."""

import numpy as np
import pytest

from helpers import SOURCE, TINY, write_wav
from vc_lightning.audio import voice_activity
from vc_lightning.audio.checks import pitch_check
from vc_lightning.audio.checks.pitch_check import voiced_share
from vc_lightning.audio.files import io
from vc_lightning.audio.voice_activity import VAD_WINDOW, speech_windows
from vc_lightning.conversion.batch.converter import BatchConverter
from vc_lightning.conversion.batch.jobs import Job
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.models import checkpoints
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import Card
from vc_lightning.models.vocoders.factory import griffin_lim


def contour(wav, hop_length=256):
    return np.full(len(wav) // hop_length + 1, 120, dtype=np.float32)


def test_share_counts_speech_frames_only(speech):
    pause = np.zeros(16_000, dtype=np.float32)
    wav = np.concatenate([speech, pause])
    f0 = contour(wav)
    f0[len(speech) // 256 :] = 0
    windows = speech_windows(wav)
    assert not windows[-20:].any()
    last = np.flatnonzero(windows)[-1] * VAD_WINDOW // 256
    spoken = windows[np.arange(last + 1) * 256 // VAD_WINDOW]
    expected = (f0[: last + 1] > 0)[spoken].mean()
    assert voiced_share(f0, windows, 16_000, 256) == pytest.approx(expected, abs=0.01)
    assert expected > 0.95
    f0[::2] = 0
    assert voiced_share(f0, windows, 16_000, 256) == pytest.approx(expected / 2, abs=0.02)


def test_share_is_independent_of_rate_and_hop(speech):
    f0 = contour(speech)
    f0[: len(f0) // 2] = 0
    windows = speech_windows(speech)
    share = voiced_share(f0, windows, 16_000, 256)
    assert 0.4 < share < 0.6
    fast = io.resample(speech, 16_000, 22_050)
    f0 = contour(fast, 275)
    f0[: len(f0) // 2] = 0
    assert voiced_share(f0, windows, 22_050, 275) == pytest.approx(share, abs=0.02)


def test_no_share_without_speech():
    noise = 1e-3 * np.random.default_rng(0).standard_normal(8_000).astype(np.float32)
    assert voiced_share(contour(noise), speech_windows(noise), 16_000, 256) is None


@pytest.fixture
def converter(tmp_path, mel_settings, encoder):
    network = AutoVC(**TINY, f0=True).eval()
    identity = checkpoints.identity("ge2e", encoder.state_dict())
    card = Card("autovc", network.arguments, mel_settings, identity, "average", 7)
    path = checkpoints.save(tmp_path / "told.safetensors", network.state_dict(), card)
    return VoiceConverter.from_checkpoint(
        path, vocoder=lambda mel: griffin_lim(mel, None, 1, n_iter=1, momentum=0.0)
    )


@pytest.fixture
def every_frame(monkeypatch):
    """A tracker that finds a pitch in every n-th frame."""

    def install(n):
        def track(wav, sample_rate, hop_length):
            f0 = contour(wav, hop_length)
            f0[np.arange(len(f0)) % n != 0] = 0
            return f0

        monkeypatch.setattr("vc_lightning.models.pitch_tracker.track", track)

    return install


@pytest.mark.parametrize(("n", "warned"), [(5, False), (8, True)])
def test_warns_once_per_recording(
    converter, every_frame, tmp_path, speech, other_speech, caplog, n, warned
):
    every_frame(n)
    assert 1 / 8 < pitch_check.MIN_VOICED_SHARE < 1 / 5
    source = write_wav(tmp_path / "my source.wav", speech[:32_000])
    target = write_wav(tmp_path / "target.wav", other_speech[:32_000])
    batch = BatchConverter(converter, tmp_path, 0, before=lambda w, _: w, after=lambda w, _: w)
    jobs = [Job(source, (target,), tmp_path / f"{i}.wav") for i in range(2)]
    jobs.append(Job(target, (source,), tmp_path / "back.wav"))
    assert [row.error for row in batch.convert(jobs)] == [""] * 3
    messages = [r.getMessage() for r in caplog.records if "hardly any pitch" in r.getMessage()]
    assert len(messages) == (2 if warned else 0)
    for path in (source, target) if warned else ():
        assert sum(message.startswith(f"{path}: ") for message in messages) == 1


def test_detects_speech_once(converter, monkeypatch, speech):
    calls = []
    detect = voice_activity.speech_windows

    def counted(wav):
        calls.append(len(wav))
        return detect(wav)

    monkeypatch.setattr(voice_activity, "speech_windows", counted)
    converter.analyze(SOURCE)
    assert calls == [len(speech)]


def test_no_warning_without_f0_inputs(tiny_checkpoint, every_frame, tmp_path, speech, caplog):
    every_frame(1_000)
    path = write_wav(tmp_path / "a.wav", speech[:32_000])
    VoiceConverter.from_checkpoint(tiny_checkpoint).analyze(path)
    assert "hardly any pitch" not in caplog.text


def test_no_warning_for_unnamed_samples(converter, every_frame, speech, caplog):
    every_frame(1_000)
    converter.analyze(speech[:32_000])
    assert "hardly any pitch" not in caplog.text
