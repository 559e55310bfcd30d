"""Serve conversions to other programs over HTTP: python serve.py"""

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
import numpy as np
from omegaconf import DictConfig

from vc_lightning.commands import builders, entry_point, paths
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError, needs_extra
from vc_lightning.common.files import require_file
from vc_lightning.conversion.batch_converter import BatchConverter
from vc_lightning.conversion.jobs import Job, Row
from vc_lightning.models.vocoders.base import Progress

if TYPE_CHECKING:
    from vc_lightning.service.app import ConversionApi

log = logging.getLogger("serve")

KEY_VARIABLE = "VC_API_KEY"  # no argument: all users of a computer can read arguments
LIMITS = (
    *("max_seconds", "max_megabytes", "max_targets", "max_requests", "batch_size"),
    *("batch_seconds", "transfer_seconds", "wait_seconds"),
)


@hydra.main(version_base="1.3", config_path=str(resources.CONF), config_name="serve")
@entry_point.reports_input_errors
def main(cfg: DictConfig) -> None:
    """Serve until the program is stopped, then finish the running requests.

    Args:
        cfg: The configuration `conf/serve.yaml`.

    Raises:
        InputError: A value is wrong, the port is taken, or the extra `serve` is missing.
    """
    with needs_extra("the service", "serve"):
        from vc_lightning.service import server
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the server handles it itself
    with (
        tempfile.TemporaryDirectory(prefix="vc_lightning_service_") as folder,
        server.bind(cfg.host, cfg.port) as listener,
    ):
        server.make(build_api(cfg, Path(folder)), cfg.stop_seconds).run(sockets=[listener])
    log.info("stopped")


def build_api(cfg: DictConfig, folder: Path) -> "ConversionApi":
    """Build the HTTP API from the configuration.

    Args:
        cfg: The configuration `conf/serve.yaml`.
        folder: Folder for recordings and results while a request runs.

    Raises:
        InputError: A value is wrong, a weight file cannot be used, or a key is missing.
    """
    from vc_lightning.service.access import Access
    from vc_lightning.service.app import ConversionApi, ServiceLimits

    access = Access(cfg.host, api_keys(cfg))
    limits = ServiceLimits(**{name: cfg[name] for name in LIMITS})
    converter = builders.build_converter(cfg)
    voices = paths.single_path(cfg.voices.dir, "voices.dir")

    def unchanged(wav: np.ndarray, _: int) -> np.ndarray:
        return wav

    def convert(jobs: Sequence[Job], progress: Progress) -> list[Row]:
        batch = BatchConverter(converter, voices, cfg.seed, before=unchanged, after=unchanged)
        return batch.convert(jobs, progress)

    about = {"software": converter.note().software, "checkpoint": converter.checkpoint}
    return ConversionApi(convert, access, limits, voices, folder, about)


def api_keys(cfg: DictConfig) -> list[str]:
    """Read the accepted API keys from the environment and from a file.

    Args:
        cfg: A configuration with `api_key_file`.

    Raises:
        InputError: The file cannot be read, is empty or is not ASCII.
    """
    keys = [os.environ[KEY_VARIABLE].strip()] if os.environ.get(KEY_VARIABLE) else []
    if cfg.api_key_file is not None:
        path = require_file(paths.single_path(cfg.api_key_file, "api_key_file"))
        try:
            lines = path.read_text(encoding="ascii").split()
        except ValueError:
            raise InputError(
                f"api_key_file={path}: is not ASCII text; give one key per line"
            ) from None
        if not lines:
            raise InputError(f"api_key_file={path}: is empty; give one key per line")
        keys += lines
    return keys


def run() -> None:
    """Run `python serve.py`, or `vc-serve` where the package is installed."""
    entry_point.run(main, "serve")
