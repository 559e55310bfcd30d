"""Objects that several commands build from the configuration."""

from typing import Any, cast

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from vc_lightning.commands.support.paths import single_path
from vc_lightning.common import resources, validation
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.converter import VoiceConverter


def build_converter(cfg: DictConfig) -> VoiceConverter:
    """Build the converter that `conf/converter.yaml` and the group `vocoder` describe.

    Raises:
        InputError: A value is wrong or a weight file cannot be used.
    """
    require_valid_types(cfg)
    return VoiceConverter.from_checkpoint(
        single_path(cfg.ckpt or str(resources.AUTOVC), "ckpt"),
        vocoder=instantiate(cfg.vocoder),
        speaker_encoder=single_path(
            cfg.speaker_encoder or str(resources.SPEAKER_ENCODER), "speaker_encoder"
        ),
        freq=cfg.ckpt_freq,
        guidance=cfg.guidance,
        contrast=cfg.contrast,
    ).to(select_device(cfg.device))


def require_valid_types(cfg: DictConfig) -> None:
    """Check all values against the type hints of the classes and functions that take them.

    Raises:
        InputError: A value has another type; the message names its full key.
    """
    validation.require_fitting(plain(cfg))


def plain(cfg: DictConfig, resolve: bool = True) -> dict[str, Any]:
    """Convert a configuration to plain dictionaries, lists and values.

    Args:
        cfg: The configuration.
        resolve: Whether interpolations, such as `${run_dir}`, are replaced by their values.
    """
    made = OmegaConf.to_container(cfg, resolve=resolve, throw_on_missing=resolve)
    return cast(dict[str, Any], made)  # a DictConfig always becomes a dictionary


def select_device(name: str) -> torch.device:
    """Return the device that `device=` names.

    Args:
        name: `auto` (a GPU if there is one) or a name that PyTorch knows, such as `cuda:1`.

    Raises:
        InputError: The device does not exist.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError(f"device={name}: {str(error).splitlines()[0]}") from error
    return device
