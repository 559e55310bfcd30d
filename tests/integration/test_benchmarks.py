"""Benchmarks that build networks and data themselves still fit the package."""

import importlib.util
import subprocess
import sys
import time

import pytest
import torch

from helpers import ROOT

GENERATOR = '''
import torch
from torch import nn


class Generator(nn.Module):
    """Takes and returns what the public network does."""

    def __init__(self, dim_neck, dim_emb, dim_pre, freq):
        super().__init__()
        self.decoder = nn.Linear(80 + dim_emb, 80)

    def forward(self, mel, speaker, target):
        if target is None:
            return mel.mean()
        voice = target[:, None].expand(-1, mel.shape[1], -1)
        made = self.decoder(torch.cat([mel, voice], dim=-1))[:, None]
        return made, made, mel.mean()
'''


def benchmark(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_public_training_loop_gets_our_batches(corpus, cache_dir, tmp_path, monkeypatch):
    folder = tmp_path / "public"
    folder.mkdir()
    (folder / "model_vc.py").write_text(GENERATOR)
    monkeypatch.syspath_prepend(folder)
    overrides = [f"data.dir={corpus}", f"data.cache_dir={cache_dir}", "data.num_workers=0"]
    overrides += ["data.batch_size=4", f"run_dir={tmp_path}"]
    train_speed = benchmark("train_speed")
    n_steps = 5  # more than an epoch has
    seconds, waits = train_speed.public(str(folder), overrides, n_steps, time.perf_counter)
    assert len(seconds) == len(waits) == n_steps - 1
    assert all(second > 0 for second in seconds)


def test_exported_network_equals_the_shipped_one(monkeypatch, capsys):
    pytest.importorskip("onnxruntime")
    onnx_speed = benchmark("onnx_speed")
    monkeypatch.setattr(onnx_speed, "ROUNDS", 1)
    monkeypatch.setattr("vc_lightning.models.lstm.HAS_AMX", False)  # the file is in float32
    before = torch.get_num_threads()
    try:
        onnx_speed.main()
    finally:
        torch.set_num_threads(before)
    difference = capsys.readouterr().out.split("largest difference: ")[1]
    assert float(difference) < 1e-4


@pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx2"), reason="this processor does not have AVX2"
)
def test_runs_a_program_as_on_another_processor(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, torch\n"
        "from vc_lightning.common.precision import HAS_AMX, HAS_VNNI\n"
        "print(sys.argv[1:], HAS_AMX, HAS_VNNI, torch.backends.cpu.get_cpu_capability())\n"
    )
    command = [sys.executable, ROOT / "benchmarks" / "as_processor.py", "AVX2", program, "--one"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == "['--one'] False False AVX2\n"
