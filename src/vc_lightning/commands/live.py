"""Convert live speech: python live.py target=b.wav"""

import logging
import signal
import sys

import hydra
from omegaconf import DictConfig

from vc_lightning.audio.files import io
from vc_lightning.commands.live_speak import speak
from vc_lightning.commands.support import entry_point
from vc_lightning.common import resources
from vc_lightning.common.errors import (
    InputError,
    require_at_least,
    require_one_of,
    require_within,
)
from vc_lightning.live import devices

log = logging.getLogger("live")

MODES = ("speak", "devices")


@hydra.main(version_base="1.3", config_path=str(resources.CONF), config_name="live")
@entry_point.reports_input_errors
def main(cfg: DictConfig) -> None:
    """Convert, or list the devices, as `mode` says.

    Raises:
        InputError: A value is wrong, a device or file cannot be used, or an extra is missing.
    """
    require_valid(cfg)
    # SIGTERM closes devices and files as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if cfg.mode == "devices":
        log.info("%s", "\n".join(devices.listed()) or "there are no sound devices")
    else:
        speak(cfg)


def require_valid(cfg: DictConfig) -> None:
    """Raise InputError for values that are used only after the networks are loaded."""
    require_one_of(MODES, "", mode=cfg.mode)
    require_within(0, 1, "", cushion_seconds=cfg.cushion_seconds)
    require_within(0.2, 60, "", max_buffered_seconds=cfg.max_buffered_seconds)
    for key in ("input_rate", "output_rate"):
        if cfg[key] is not None:
            require_within(io.MIN_SAMPLE_RATE, io.MAX_SAMPLE_RATE + 1, "", **{key: cfg[key]})
            require_at_least(1, "", **{key: cfg[key]})
    if cfg.device_latency not in ("low", "high"):
        require_within(0, 5, "", device_latency=cfg.device_latency)
    for key in ("input_device", "output_device"):
        if isinstance(cfg[key], bool) or not isinstance(cfg[key], int | str | None):
            raise InputError(f"{key}={cfg[key]}: give a number or a name")


def run() -> None:
    """Run `python live.py`, or `vc-live` where the package is installed."""
    for word in sys.argv[1:]:
        if word in ("serve", "mode=serve") or word.startswith("serve."):
            entry_point.fail(
                f"{word}: live speech for other programs is now part of the service: "
                f"{resources.command('serve')} live.target=FILE, at ws://127.0.0.1:8000/live"
            )
    sys.argv[1:] = ["mode=devices" if word == "devices" else word for word in sys.argv[1:]]
    entry_point.run(main, "live")
