"""What several tests use: paths, tiny networks, command lines, comparisons."""

import contextlib
import importlib
import io
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from vc_lightning.audio.files.io import resample
from vc_lightning.common import resources
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.models import checkpoints
from vc_lightning.models.vocoders.wavernn.multiband import MultiBandWaveRNN
from vc_lightning.models.vocoders.wavernn.network import WaveRNN

ROOT = resources.ROOT
SOURCE = ROOT / "examples" / "source.wav"
TARGET = ROOT / "examples" / "target.wav"
TINY = {
    "dim_neck": 4,
    "dim_emb": 256,
    "dim_pre": 16,
    "freq": 8,
    "dim_encoder": 16,
    "dim_decoder": 16,
    "decoder_layers": 1,
    "dim_postnet": 16,
}
TINY_OVERRIDES = [
    "experiment=none",
    *(f"model.{key}={value}" for key, value in TINY.items()),
]
RECORDINGS_DEFAULTS = {  # of `data=folder` and `data=vocoder`
    "dir": None,
    "manifest": None,
    "exclude": [],
    "minutes_per_speaker": None,
    "max_seconds": 30,
    "feature_precision": "32",
    "val_fraction": 0.0,
    "val_speakers": 0,
    "sampling": "utterance",
    "batch_size": 2,
    "shuffle": True,
    "num_workers": 0,
    "pin_memory": True,
    "seed": 1,
}
DATA_DEFAULTS = RECORDINGS_DEFAULTS | {
    "conversions_from": None,
    "conversions_share": 0.5,
    "crop_frames": 64,
    "speaker_embedding": "utterance",
    "vtlp_factors": [],
    "vtlp_probability": 0.75,
    "vtlp_target_factors": [],
    "vtlp_target_probability": 0.5,
    "augmentations": [],
    "reference_frames": 100,
}
VOCODER_DATA_DEFAULTS = RECORDINGS_DEFAULTS | {
    "crop_frames": 4,
    "context_frames": 0,
    "mels_from": None,
    "mels_from_share": 1.0,
}
NEEDS = {"f0", "teacher", "recogniser", "acoustics", "reference"}
LEARNT = (
    "state_dict",
    "optimizer_states",
    "lr_schedulers",
    "callbacks",
    "global_step",
)
DATA_MODULES = {"VoiceDataModule", "VocoderDataModule"}


def data_module(settings, mel, encoder, identity="ge2e-test", **values):
    """Build a data module of the class `settings`; values are settings and what a network needs."""
    needed = {name: values.pop(name) for name in NEEDS & values.keys()}
    return settings(**values).build(FeatureNeeds(mel, encoder, identity, **needed))


def tiny_wavernn(mode="MOL", **changes):
    """A small random WaveRNN in float64, the same at every call."""
    torch.manual_seed(0)
    arguments = {
        "bits": 6,
        "n_mels": 5,
        "upsample_factors": (2, 3),
        "rnn_dims": 8,
        "fc_dims": 8,
        "compute_dims": 8,
        "res_out_dims": 8,
        "res_blocks": 2,
    }
    network = WaveRNN(mode, **arguments | changes).double().eval()
    for module in network.modules():  # untrained BatchNorm would be the identity
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network


def joined(filterbank, bands):
    """Join bands (B, L, bands) by a PQMF into sound (B, L · bands) without its delay."""
    wav, tail = filterbank.continue_synthesis(bands, bands.new_zeros(len(bands), 0))
    delay = filterbank.reach
    return torch.cat([wav, tail], dim=1)[:, delay : delay + wav.shape[1]]


def tiny_multiband(**changes):
    """A small random multi-band WaveRNN in float64, the same at every call."""
    torch.manual_seed(0)
    arguments = {
        "n_mels": 5,
        "hop_length": 32,
        "bands": 4,
        "order": 6,
        "prediction_order": 3,
        "pad": 3,
        "frame_dims": 8,
        "frame_blocks": 1,
        "rnn_dims": 12,
        "fc_dims": 10,
        "n_mixtures": 2,
        "temperature": 0.8,
    }
    network = MultiBandWaveRNN(**arguments | changes).double().eval()
    network.envelope.data.uniform_(-8, -4)  # loud enough to see something
    network.predictor.weight.data *= 0.3  # else its filter may be unstable
    for module in network.modules():  # untrained BatchNorm would be the identity
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network


def command(*arguments: str, wait: bool = True) -> subprocess.Popen:
    """Start `python train.py …` as a person would, on one thread; its stderr is kept."""
    process = subprocess.Popen(
        [sys.executable, ROOT / "train.py", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if wait:
        process.output, _ = process.communicate(timeout=300)
    return process


def refusal(name: str, *arguments: str) -> tuple[int, str]:
    """Exit code and stderr of a command line that is refused, without starting a process."""
    command = importlib.import_module(f"vc_lightning.commands.{name}")
    reported = io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(),
        contextlib.redirect_stderr(reported),
    ):
        patch.setattr(sys, "argv", [f"{name}.py", *arguments])
        patch.setattr(logging, "raiseExceptions", True)  # restored afterwards
        patch.setenv("HYDRA_FULL_ERROR", "1")
        try:
            command.run()
        except SystemExit as end:
            return end.code, reported.getvalue()
        finally:
            GlobalHydra.instance().clear()
    raise AssertionError(f"{name} took {arguments}")


def weights(folder, step, kind, name="autovc"):
    """A network that a run saved, and its card."""
    return checkpoints.read_autovc(folder / f"checkpoints/{name}_step{step}_{kind}.safetensors")


def composed(config_name: str, *overrides: str):
    """The configuration that a command line gives."""
    with initialize_config_dir(str(resources.CONF), version_base="1.3"):
        return compose(config_name, overrides=list(overrides))


def write_wav(path: Path, wav: np.ndarray, sample_rate: int = 16_000, **kwargs: str) -> Path:
    """Write a recording for a test."""
    soundfile.write(path, wav, sample_rate, **kwargs)
    return path


def two_speakers(speech: np.ndarray, other_speech: np.ndarray) -> np.ndarray:
    """Two speakers after each other; the second is spoken 1.3 times as fast and as high."""
    return np.concatenate([speech, resample(other_speech, 16_000, 12_300)])


def state(folder):
    """What a run's `last.ckpt` holds."""
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)


def require_equal(one, other, name=""):
    """Every number of two checkpoints is the same, bit for bit."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), name
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), name
        for key in one.keys() - {"config"}:  # of another max_steps
            require_equal(one[key], other[key], f"{name}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), name
        for index, pair in enumerate(zip(one, other, strict=True)):
            require_equal(*pair, f"{name}[{index}]")
    else:
        assert one == other, name


def require_same_result(one, other):
    """Two runs ended with the same weights, averages, optimizer and counters."""
    one, other = state(one), state(other)
    assert one.keys() & DATA_MODULES == other.keys() & DATA_MODULES != set()
    for key in (*LEARNT, *(one.keys() & DATA_MODULES)):
        require_equal(one[key], other[key], key)
