"""Open the page in the browser: python app.py"""

import logging
import signal
import sys
import threading
from pathlib import Path

import hydra
from omegaconf import DictConfig, open_dict

from vc_lightning.commands import builders, entry_point, paths
from vc_lightning.common import resources
from vc_lightning.common.errors import needs_extra
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.demo.service import ConversionService

log = logging.getLogger("app")

EXAMPLES = resources.ROOT / "examples"  # a wheel has none


@hydra.main(version_base="1.3", config_path=str(resources.CONF), config_name="app")
@entry_point.reports_input_errors
def main(cfg: DictConfig) -> None:
    """Serve the page until the program is stopped.

    Args:
        cfg: The configuration `conf/app.yaml`.

    Raises:
        InputError: A value is wrong, the port is taken, or the extra `demo` is missing.
    """
    with needs_extra("the page", "demo"):
        from vc_lightning.demo import server
        from vc_lightning.demo.live import LiveLimits
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio requests its own page
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uploads are deleted then, too
    with server.serving(
        build_service(cfg),
        LiveLimits(**cfg.live),
        host=cfg.host,
        port=cfg.port,
        max_waiting=cfg.max_waiting,
        keep_minutes=cfg.keep_minutes,
        examples=sorted(EXAMPLES.glob("*.wav")),
    ) as address:
        log.info("the page is open at %s (Ctrl-C closes it)", address)
        threading.Event().wait()


def build_service(cfg: DictConfig) -> ConversionService:
    """Build the service that makes the page's conversions.

    Args:
        cfg: The configuration `conf/app.yaml`.

    Raises:
        InputError: A value is wrong or a file is missing.
    """
    default = Path(cfg.ckpt) if cfg.ckpt else resources.AUTOVC
    checkpoints = {"shipped" if default == resources.AUTOVC else default.stem: default}
    if cfg.checkpoints:
        suffixes = frozenset([".safetensors", ".ckpt"])
        for path in paths.existing_paths(cfg.checkpoints, "checkpoints", suffixes, "weight files"):
            if checkpoints.setdefault(path.stem, path) != path:
                log.warning("checkpoints: %s is left out: another one has this name", path)

    def load(path: Path, vocoder: str) -> VoiceConverter:
        with open_dict(cfg):
            cfg.ckpt = str(path)
            cfg.vocoder = cfg.vocoders[vocoder]
        return builders.build_converter(cfg)

    return ConversionService(
        checkpoints,
        list(cfg.vocoders),
        load,
        paths.single_path(cfg.voices.dir, "voices.dir"),
        max_seconds=cfg.max_seconds,
        max_megabytes=cfg.max_megabytes,
    )


def run() -> None:
    """Run `python app.py`, or `vc-app` where the package is installed."""
    entry_point.run(main, "app")
