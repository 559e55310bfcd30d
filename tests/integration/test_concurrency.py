"""Two conversions and a training run at once, as processes with one cache, work as each alone."""

import os
import subprocess
import sys

import numpy as np
import soundfile
import torch

from helpers import ROOT, composed, weights
from vc_lightning.commands import convert
from vc_lightning.data.features import files


def start(command: str, *arguments: str, cache) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, ROOT / f"{command}.py", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(cache)},
    )


def test_concurrent_commands_do_not_interfere(run, arguments, corpus, tmp_path, tiny_checkpoint):
    def conversion(source, target, folder):
        output = tmp_path / folder / f"{source}.wav"
        return [
            *(f"source={corpus / source / '0.wav'}", f"target={corpus / target / '0.wav'}"),
            *(f"output={output}", f"ckpt={tiny_checkpoint}"),
            *("vocoder=griffin_lim", "vocoder.n_iter=1"),
        ]

    pairs = [("man", "woman"), ("woman", "man")]
    training = ["trainer.max_steps=2", "logger=none"]
    for pair in pairs:
        convert.main(composed("convert", *conversion(*pair, "alone")))
    run(*training, name="alone")

    root = tmp_path / "cache"
    cache = f"data.cache_dir={root / 'vc_lightning'}"
    processes = [
        *(start("convert", *conversion(*pair, "together"), cache=root) for pair in pairs),
        start("train", *arguments(*training, cache, name="together"), cache=root),
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors

    for name in ("man.wav", "woman.wav"):
        alone, together = (
            soundfile.read(tmp_path / folder / name)[0] for folder in ("alone", "together")
        )
        np.testing.assert_array_equal(alone, together)
    alone, together = (
        weights(tmp_path / folder, 2, "average")[0].state_dict() for folder in ("alone", "together")
    )
    assert all(torch.equal(alone[key], together[key]) for key in alone)
    features = list(root.rglob("*.safetensors"))
    assert features
    assert all(files.is_whole(path) for path in features)
    assert [path for path in tmp_path.rglob(".*") if path.is_file()] == []
