"""Shared by all tests: real recordings, a small corpus cut out of them, tiny networks."""

import os
import shutil
from pathlib import Path

import pytest
import soundfile
import torch

from helpers import SOURCE, TARGET, TINY, TINY_OVERRIDES, composed
from vc_lightning.audio.files import io
from vc_lightning.common import resources
from vc_lightning.models import checkpoints
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import Card


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Test files run in parallel; and with one thread the results are the same everywhere."""
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start


@pytest.fixture(scope="session")
def speech():
    """Six seconds of a man's voice, float32 (n,) at 16 kHz."""
    return io.load(SOURCE)[0]


@pytest.fixture(scope="session")
def other_speech():
    """Nine seconds of a woman's voice, float32 (n,) at 16 kHz."""
    return io.load(TARGET)[0]


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


@pytest.fixture(scope="session")
def shared_checkpoint(tmp_path_factory, mel_settings, encoder):
    """A weight file of an untrained tiny network that fits the shipped speaker encoder."""
    torch.manual_seed(0)
    network = AutoVC(**TINY)
    identity = checkpoints.identity("ge2e", encoder.state_dict())
    card = Card("autovc", network.arguments, mel_settings, identity, "average", 7)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    return checkpoints.save(path, network.state_dict(), card)


@pytest.fixture
def tiny_checkpoint(tmp_path, shared_checkpoint):
    """A copy of that file for one test, which may change it."""
    return Path(shutil.copy(shared_checkpoint, tmp_path))


def quick_training(corpus: Path, cache_dir: Path, run_dir: Path) -> list[str]:
    """The command line of a training run of a tiny network: four steps, saved after every two."""
    settings = {
        "data.dir": corpus,
        "data.cache_dir": cache_dir,
        "data.num_workers": 0,
        "data.val_fraction": 0.34,
        "data.crop_frames": 32,
        "run_dir": run_dir,
        "init_from": "null",
        "scheduler.warmup": 20,
        "trainer.max_steps": 4,
        "trainer.precision": "32-true",
        "trainer.val_check_interval": 2,
        "trainer.log_every_n_steps": 1,
        "logger": "csv",  # drawing TensorBoard's pictures takes longer than the training run
        "callbacks.samples.every_n_steps": 1000,
        "callbacks.samples.max_frames": 20,
        "callbacks.samples.vocoder.n_iter": 1,
        "checkpoint.every_n_steps": 2,
    }
    return [*(f"{key}={value}" for key, value in settings.items()), *TINY_OVERRIDES]


@pytest.fixture
def arguments(corpus, cache_dir, tmp_path):
    """Make the command line of a training run of a tiny network into the folder tmp_path/name."""

    def arguments(*more, name="run"):
        return [*quick_training(corpus, cache_dir, tmp_path / name), *more]

    return arguments


@pytest.fixture
def run(arguments, tmp_path):
    """Run train.py's job with a tiny network; return the run's folder."""
    from vc_lightning.commands import train  # Lightning and Hydra, which most tests do not need

    def run(*more, name="run"):
        train.main(composed("train", *arguments(*more, name=name)))
        return tmp_path / name

    return run


@pytest.fixture(scope="session")
def trained(corpus, cache_dir, tmp_path_factory):
    """The folder of one such run, for tests that only read it."""
    from vc_lightning.commands import train

    folder = tmp_path_factory.mktemp("trained")
    train.main(composed("train", *quick_training(corpus, cache_dir, folder)))
    return folder
