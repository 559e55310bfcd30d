"""Where the project's settings and shipped weights lie."""

from pathlib import Path

from omegaconf import OmegaConf

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
CHECKPOINTS = ROOT / "checkpoints"
AUTOVC = CHECKPOINTS / "autovc.safetensors"
SPEAKER_ENCODER = CHECKPOINTS / "speaker_encoder.safetensors"
WAVERNN = CHECKPOINTS / "wavernn.safetensors"
GRIFFIN_LIM = CHECKPOINTS / "griffin_lim.safetensors"


def settings(group: str, name: str) -> dict:
    """The numbers that `group=name` stands for on the command line, from conf/group/name.yaml."""
    values = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))
    return {key: value for key, value in values.items() if not key.startswith("_")}
