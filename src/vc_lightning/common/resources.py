"""Paths of the shipped settings and weights."""

from pathlib import Path

import yaml

PACKAGE = Path(__file__).resolve().parents[1]
IS_CHECKOUT = not (PACKAGE / "conf").is_dir()  # a wheel carries them inside the package
ROOT = PACKAGE.parents[1] if IS_CHECKOUT else PACKAGE
CONF = ROOT / "conf"
CHECKPOINTS = ROOT / "checkpoints"
WEIGHTS_LIST = CHECKPOINTS / "weights.json"
AUTOVC = CHECKPOINTS / "autovc.safetensors"
SPEAKER_ENCODER = CHECKPOINTS / "speaker_encoder.safetensors"
WAVERNN = CHECKPOINTS / "wavernn.safetensors"
GRIFFIN_LIM = CHECKPOINTS / "griffin_lim.safetensors"
SOURCE_FILTER = CHECKPOINTS / "source_filter.safetensors"
RECOGNISER = CHECKPOINTS / "recogniser.safetensors"
SPEAKER_CRITIC = CHECKPOINTS / "speaker_critic.safetensors"


def settings(group: str, name: str) -> dict:
    """Read the values of `group=name` from conf/group/name.yaml."""
    values = yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8"))
    return {key: value for key, value in values.items() if not key.startswith("_")}


def command(name: str) -> str:
    """Return how a command is started here, such as `python train.py` or `vc-train`."""
    return f"python {name}.py" if IS_CHECKOUT else f"vc-{name}"
