import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from vc_lightning.commands import train
from vc_lightning.training import machine
from vc_lightning.training.machine import (
    BFLOAT16,
    FLOAT32,
    choose_precision,
    measure_steps,
)

FASTER_FLOAT32 = {BFLOAT16: 0.2, FLOAT32: 0.1}
FASTER_BFLOAT16 = {BFLOAT16: 0.1, FLOAT32: 0.2}


class Clock:
    """A clock that only `pass_time` moves; the first step takes 0.1 s longer."""

    now = 0.0
    steps = 0

    def __call__(self):
        return Clock.now

    def pass_time(self, seconds):
        Clock.steps += 1
        Clock.now += seconds + (0.1 if Clock.steps == 1 else 0)


class Task(nn.Module):
    """A task whose network has batch statistics and dropout."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
        self.config = {"trainer": {"precision": BFLOAT16}}

    def losses(self, network, batch):
        Clock().pass_time(0.25 if torch.is_autocast_enabled("cpu") else 0.5)
        return {"loss": network(batch).float().sum()}


@pytest.fixture
def data():
    return SimpleNamespace(train_dataloader=lambda: [torch.randn(3, 2)])


def test_measures_fastest_step_without_training():
    Clock.now, Clock.steps = 0.0, 0
    task = Task()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert measure_steps(task, torch.randn(3, 2, generator=torch.Generator()), Clock()) == {
        BFLOAT16: pytest.approx(0.25),
        FLOAT32: pytest.approx(0.5),
    }
    assert Clock.steps == 6  # after 2.35 s, more than SECONDS
    torch.testing.assert_close(torch.rand(3), expected)
    torch.testing.assert_close(task.state_dict(), before)
    assert all(parameter.grad is None for parameter in task.parameters())


@pytest.mark.parametrize(
    ("seconds", "precision"), [(FASTER_FLOAT32, FLOAT32), (FASTER_BFLOAT16, BFLOAT16)]
)
def test_chooses_and_stores_faster_precision(monkeypatch, caplog, data, seconds, precision):
    monkeypatch.setattr(machine, "measure_steps", lambda *_: seconds)
    task = Task()
    caplog.set_level("INFO")
    assert choose_precision(task, data, None) == precision
    assert task.config["trainer"]["precision"] == precision
    for name, value in seconds.items():
        assert f"{value:.3f} s in {name}" in caplog.text


@pytest.mark.parametrize("stored", [BFLOAT16, FLOAT32])
def test_resumed_training_keeps_precision(monkeypatch, data, stored):
    content = (None, {"trainer": {"precision": stored}})
    monkeypatch.setattr(machine, "read_training", lambda _: content)
    monkeypatch.delattr(machine, "measure_steps")
    assert choose_precision(Task(), data, "last.ckpt") == stored


def test_no_measurement_without_bfloat16_units(monkeypatch, data):
    monkeypatch.delattr(machine, "measure_steps")
    task = Task()
    task.config["trainer"]["precision"] = FLOAT32
    assert choose_precision(task, data, None) == FLOAT32


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"accelerator": "cpu"}, True),
        ({"accelerator": "cuda"}, False),
        ({"devices": 2}, False),
        ({"num_nodes": 2}, False),
    ],
)
def test_measures_for_one_process_on_a_cpu_only(monkeypatch, changes, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    settings = {"accelerator": "auto", "devices": 1, "num_nodes": 1} | changes
    assert train.is_one_cpu_process(OmegaConf.create(settings)) == expected


CODE = """
import resource
import torch
from vc_lightning.training.machine import keep_freed_memory

def page_faults(n):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(n)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

returned = page_faults(2**24)  # 64 MB
keep_freed_memory()
page_faults(2**24)
print(page_faults(2**24 - 2**10) < returned / 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told to")
def test_large_tensors_take_the_memory_of_those_before():
    printed = subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True)
    assert printed.stdout.strip() == b"True", printed.stderr
