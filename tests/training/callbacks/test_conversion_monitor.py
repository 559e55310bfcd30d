"""The conversion monitor: warnings for given numbers, and measurements in a tiny training run."""

import csv
import logging

import pytest
import torch

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.errors import InputError
from vc_lightning.data.crops.mel import Example
from vc_lightning.models.autovc import AutoVC
from vc_lightning.training.callbacks.conversion_monitor import ConversionMonitor
from vc_lightning.training.conversion import convert

DEFAULTS = {
    "every_n_steps": 10,
    "n_speakers": 2,
    "max_frames": 100,
    "min_codes_std": 1e-3,
    "leak_after_steps": 100,
    "patience": 3,
    "min_rise": 0.01,
    "vocoder": None,
    "speaker_encoder": None,
}


@pytest.fixture
def monitor(caplog):
    caplog.set_level(logging.WARNING)
    return ConversionMonitor(**DEFAULTS)


def test_reports_collapsed_codes_once(monitor, caplog):
    monitor.check_codes(10, 0.013)
    assert not caplog.messages
    monitor.check_codes(20, 4e-4)
    monitor.check_codes(30, 3e-4)
    (message,) = caplog.messages
    assert "step 20: the codes have collapsed (train/codes_std 4.0e-04)" in message
    assert "task.content_per_std=true" in message


def test_reports_leakage(monitor, caplog):
    monitor.check_similarity(50, to_target=0.5, to_source=0.9)
    monitor.check_similarity(100, to_target=0.6, to_source=0.59)
    assert not caplog.messages
    monitor.check_similarity(150, to_target=0.62, to_source=0.65)
    (message,) = caplog.messages
    assert "to the source 0.65, to the target 0.62" in message
    assert "data.vtlp_factors" in message


def test_reports_plateau(monitor, caplog):
    for step, value in enumerate([0.5, 0.55, 0.6, 0.59, 0.605, 0.62, 0.61, 0.62]):
        monitor.check_similarity(step, to_target=value, to_source=0)
    assert not caplog.messages
    monitor.check_similarity(8, to_target=0.625, to_source=0)
    (message,) = caplog.messages
    assert "has not risen since step 5 (0.62)" in message


def test_a_resumed_training_keeps_its_patience(monitor, caplog):
    for step, value in enumerate([0.5, 0.6, 0.59, 0.58]):
        monitor.check_similarity(step, to_target=value, to_source=0)
    monitor.warn("leak", "the source voice leaks")
    resumed = ConversionMonitor(**DEFAULTS)
    resumed.load_state_dict(monitor.state_dict())
    caplog.clear()
    resumed.warn("leak", "the source voice leaks")
    resumed.check_similarity(4, to_target=0.6, to_source=0)
    (message,) = caplog.messages
    assert "has not risen since step 1 (0.60)" in message


def test_refuses_impossible_settings():
    with pytest.raises(InputError, match=r"callbacks\.conversion_monitor\.patience=0"):
        ConversionMonitor(**DEFAULTS | {"patience": 0})


@pytest.mark.parametrize("accumulated", [1, 2])  # batches per optimizer step
def test_logs_similarities(run, caplog, accumulated):
    caplog.set_level(logging.WARNING)
    folder = run(
        "callbacks.conversion_monitor.every_n_steps=2",
        "callbacks.conversion_monitor.leak_after_steps=0",
        "callbacks.conversion_monitor.min_codes_std=0.99",
        "callbacks.conversion_monitor.vocoder.n_iter=1",
        f"trainer.accumulate_grad_batches={accumulated}",
    )
    with (folder / "csv/metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/similarity_to_target"]]
    assert [int(row["step"]) for row in rows] == [2, 4]
    for row in rows:
        assert -0.1 < float(row["val/similarity_to_target"]) < 1
        assert row["val/similarity_to_target"] != row["val/similarity_to_source"]
    assert sum("the codes have collapsed" in message for message in caplog.messages) == 1


def test_shown_conversions_have_target_pitch(mel_settings):
    mel = MelSpectrogram(**mel_settings)
    received = []

    class Recorder(AutoVC):
        def decode(self, codes, n_frames, embedding, harmonics=None):
            received.append(harmonics)
            return super().decode(codes, n_frames, embedding, harmonics)

    network = Recorder(dim_neck=2, dim_emb=4, dim_pre=4, freq=8, dim_encoder=4, f0=True).eval()
    low, high = (
        Example(name, torch.rand(80, 30), torch.rand(4), torch.full((30,), hz), torch.zeros(0, 30))
        for name, hz in (("low", 100.0), ("high", 200.0))
    )
    shown = convert(network, mel, low, high, max_frames=20)
    assert shown.shape == (1, 80, 20)
    expected = mel.harmonics(torch.full((1, 20), 200.0))
    torch.testing.assert_close(received[0], expected, rtol=1e-3, atol=1e-3)
