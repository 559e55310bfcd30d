"""What the command lines need to work at all: short recordings and tiny networks."""

from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch

from vc_lightning.audio.files import io
from vc_lightning.common import resources
from vc_lightning.models import checkpoints
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import Card

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
TINY_MODEL = [f"model.{name}={value}" for name, value in TINY.items()]
EXAMPLES = resources.ROOT / "examples"


@dataclass(frozen=True)
class Bench:
    """Files that every trial reads and none may change.

    Attributes:
        source, target: two seconds of speech, 16 kHz.
        corpus: two speakers with three such recordings each; cache: their features.
        checkpoint: a tiny AutoVC with the shipped speaker encoder.
        shards: where the corpus is written as shards, once `first_trials` were run; last: a
            `last.ckpt` of one step, likewise.
    """

    source: Path
    target: Path
    corpus: Path
    cache: Path
    checkpoint: Path
    shards: Path
    last: Path

    def convert(self, **changed: object) -> list[str]:
        """Arguments of a conversion with the tiny network into conversion.wav."""
        settings = {
            "source": self.source,
            "target": self.target,
            "ckpt": self.checkpoint,
            "vocoder": "griffin_lim",
            "vocoder.n_iter": 1,
            "voices.dir": "voices",
        }
        return _arguments(settings, changed)

    def train(self, **changed: object) -> list[str]:
        """Arguments of one step of training of the tiny network."""
        settings = {
            "data.dir": self.corpus,
            "data.cache_dir": self.cache,
            "data.num_workers": 0,
            "data.val_fraction": 0.34,
            "data.crop_frames": 16,
            "run_dir": "run",
            "hydra.run.dir": "run",
            "hydra.output_subdir": "null",
            "init_from": "null",
            "experiment": "none",
            "logger": "none",
            "trainer.max_steps": 1,
            "trainer.precision": "32-true",
            "trainer.accelerator": "cpu",
            "trainer.val_check_interval": 1,
            "trainer.limit_val_batches": 1,
        }
        tiny = [] if "model" in changed else TINY_MODEL
        return [*_arguments(settings, changed), *tiny, "~callbacks.progress"]

    def evaluate(self, **changed: object) -> list[str]:
        """Arguments of an evaluation of the tiny network by the scorer that needs no model."""
        settings = {
            "data.dir": self.corpus,
            "ckpt": self.checkpoint,
            "n_pairs": 1,
            "n_targets": 1,
            "scorers": "codes",
            "output": "report",
            "vocoder": "griffin_lim",
            "vocoder.n_iter": 1,
        }
        return _arguments(settings, changed)


def _arguments(settings: dict, changed: dict) -> list[str]:
    """Overrides of Hydra, in which __ in a name stands for a dot; None drops a setting."""
    settings = settings | {name.replace("__", "."): value for name, value in changed.items()}
    return [f"{name}={value}" for name, value in settings.items() if value is not None]


def make(folder: Path) -> Bench:
    """Write the files into an empty folder."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    paths = []
    for name in ("source", "target"):
        wav, rate = io.load(EXAMPLES / f"{name}.wav")
        (folder / "corpus" / name).mkdir(parents=True)
        for index in range(3):
            path = folder / "corpus" / name / f"{index}.wav"
            soundfile.write(path, wav[index * 30_000 :][:32_000], rate)
            paths.append(path)
    network = AutoVC(**TINY).eval()
    encoder = checkpoints.load_speaker_encoder()
    identity = checkpoints.identity("ge2e", encoder.state_dict())
    card = Card("autovc", network.arguments, resources.settings("mel", "autovc"), identity)
    checkpoint = checkpoints.save(folder / "tiny.safetensors", network.state_dict(), card)
    places = (folder / name for name in ("corpus", "cache"))
    return Bench(
        paths[0],
        paths[3],
        *places,
        checkpoint,
        folder / "shards",
        folder / "first/checkpoints/last.ckpt",
    )
