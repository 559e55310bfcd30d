"""Shared by all tests: real recordings, a small corpus cut out of them, tiny networks."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hydra import compose, initialize_config_dir

from vc_lightning import audio, checkpoints, resources
from vc_lightning.autovc import AutoVC
from vc_lightning.checkpoints import Card

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
TINY_OVERRIDES = [f"model.{key}={value}" for key, value in TINY.items()]

sys.path.insert(0, str(ROOT))  # the entry points lie at the root


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Small tensors are slower on two threads, and the results are the same everywhere."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def speech():
    """Six seconds of a man's voice, float32 (n,) at 16 kHz."""
    return audio.load(SOURCE)[0]


@pytest.fixture(scope="session")
def other_speech():
    """Nine seconds of a woman's voice, float32 (n,) at 16 kHz."""
    return audio.load(TARGET)[0]


@pytest.fixture(scope="session")
def mel_settings():
    return resources.settings("mel", "autovc")


@pytest.fixture(scope="session")
def encoder():
    return checkpoints.load_speaker_encoder()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory, speech, other_speech):
    """Two speakers with three recordings of two seconds each, as folders."""
    root = tmp_path_factory.mktemp("corpus")
    for name, wav in {"man": speech, "woman": other_speech}.items():
        (root / name).mkdir()
        for index in range(3):
            part = wav[index * 30_000 : index * 30_000 + 32_000]
            soundfile.write(root / name / f"{index}.wav", part, 16_000)
    return root


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    """One feature cache for all tests: computing features takes longest."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny_autovc():
    torch.manual_seed(0)
    return AutoVC(**TINY).eval()


@pytest.fixture
def tiny_checkpoint(tmp_path, tiny_autovc, mel_settings, encoder):
    """A weight file of an untrained tiny network that fits the shipped speaker encoder."""
    identity = checkpoints.identity("ge2e", encoder.state_dict())
    card = Card("autovc", tiny_autovc.arguments, mel_settings, identity, "average", 7)
    return checkpoints.save(tmp_path / "tiny.safetensors", tiny_autovc.state_dict(), card)


def composed(config_name: str, *overrides: str):
    """The configuration that a command line gives."""
    with initialize_config_dir(str(resources.CONF), version_base="1.3"):
        return compose(config_name, overrides=list(overrides))


def write_wav(path: Path, wav: np.ndarray, sample_rate: int = 16_000, **kwargs: str) -> Path:
    """Writes a recording for a test."""
    soundfile.write(path, wav, sample_rate, **kwargs)
    return path
