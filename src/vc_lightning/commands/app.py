"""Opens the page, on which recordings are converted in a browser: python app.py"""

import logging
import signal
import sys
import threading
from pathlib import Path

import hydra
from omegaconf import DictConfig, open_dict

from vc_lightning.commands import builders, entry_point, paths
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.demo.service import ConversionService

log = logging.getLogger("app")

EXAMPLES = resources.ROOT / "examples"  # a wheel has none


@hydra.main(version_base="1.3", config_path=str(resources.CONF), config_name="app")
@entry_point.reports_input_errors
def main(cfg: DictConfig) -> None:
    """Serves the page until it is stopped."""
    try:
        from vc_lightning.demo import page
    except ModuleNotFoundError as error:
        raise InputError(
            f"the page needs {error.name}: pip install 'vc-lightning[demo]'"
        ) from error
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio asks itself whether it is there
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that files are deleted then, too
    with page.serving(
        service(cfg),
        host=cfg.host,
        port=cfg.port,
        max_waiting=cfg.max_waiting,
        keep_minutes=cfg.keep_minutes,
        examples=sorted(EXAMPLES.glob("*.wav")),
    ) as address:
        log.info("the page is open at %s (Ctrl-C closes it)", address)
        threading.Event().wait()


def service(cfg: DictConfig) -> ConversionService:
    """What the page offers, from the keys of conf/app.yaml."""
    ours = Path(cfg.ckpt) if cfg.ckpt else resources.AUTOVC
    checkpoints = {"shipped" if ours == resources.AUTOVC else ours.stem: ours}
    if cfg.checkpoints:
        for path in paths.existing_paths(
            cfg.checkpoints, "checkpoints", frozenset([".safetensors", ".ckpt"])
        ):
            checkpoints.setdefault(path.stem, path)

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
    """`python app.py`, and `vc-app` where the package is installed."""
    entry_point.run(main, "app")
