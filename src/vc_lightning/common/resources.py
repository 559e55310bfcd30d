"""Paths of the shipped settings and weights."""

from pathlib import Path

import yaml

PACKAGE = Path(__file__).resolve().parents[1]
IS_CHECKOUT = not (PACKAGE / "conf").is_dir()  # a wheel carries them inside the package
ROOT = PACKAGE.parents[1] if IS_CHECKOUT else PACKAGE
CONF = ROOT / "conf"
CHECKPOINTS = ROOT / "checkpoints"
WEIGHTS_LIST = CHECKPOINTS / "weights.json"


def weights(name: str) -> Path:
    """Return the path of shipped weights; those of a vocoder have its name in `conf/vocoder/`."""
    return CHECKPOINTS / f"{name}.safetensors"


AUTOVC = weights("autovc")
SPEAKER_ENCODER = weights("speaker_encoder")
RECOGNISER = weights("recogniser")
LIVE_ADAPTER = weights("live_adapter")
PITCH_TRACKER = weights("pitch_tracker")
SPEAKER_CRITIC = weights("speaker_critic")


def settings(group: str, name: str) -> dict:
    """Read the values of `group=name` from conf/group/name.yaml."""
    values = yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8"))
    return {key: value for key, value in values.items() if not key.startswith("_")}


def command(name: str) -> str:
    """Return how a command is started here, such as `python train.py` or `vc-train`."""
    return f"python {name}.py" if IS_CHECKOUT else f"vc-{name}"
