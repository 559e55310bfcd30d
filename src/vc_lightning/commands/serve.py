"""Serve conversions, live speech and the page over HTTP: python serve.py"""

import contextlib
import copy
import dataclasses
import importlib.util
import logging
import os
import shutil
import signal
import sys
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig

from vc_lightning.commands.support import builders, entry_point, paths
from vc_lightning.commands.support.targets import target_of
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError, needs_extra, require_one_of
from vc_lightning.common.files import require_file
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.voices.shelf import VoiceShelf

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from vc_lightning.service.app import ConversionApi
    from vc_lightning.service.engine.converters import Converters

log = logging.getLogger("serve")

KEY_VARIABLE = "VC_API_KEY"  # no argument: all users of a computer can read arguments
Limits = TypeVar("Limits", bound="DataclassInstance")
EXAMPLES = resources.ROOT / "examples"  # a wheel has none


@hydra.main(version_base="1.3", config_path=str(resources.CONF), config_name="serve")
@entry_point.reports_input_errors
def main(cfg: DictConfig) -> None:
    """Serve until the program is stopped, then finish the running requests.

    Raises:
        InputError: A value is wrong, the port is taken, or an extra is missing.
    """
    serve(cfg)


def serve(cfg: DictConfig, *, opens_browser: bool = False) -> None:
    """Serve; see `main`. The configuration may also be `conf/app.yaml`."""
    with needs_extra("the service", "serve"):
        from vc_lightning.service import server
        from vc_lightning.service.work_folder import work_folder
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the server handles it itself
    with (
        work_folder() as folder,
        server.bind(cfg.host, cfg.port) as listener,
        contextlib.ExitStack() as stack,
    ):
        api = build_api(cfg, folder)
        if has_page(cfg):
            with needs_extra("the page", "demo"):
                from vc_lightning.service.page.mount import mounted
            logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio's
            stack.enter_context(mounted(api, cfg.keep_minutes, sorted(EXAMPLES.glob("*.wav"))))
        opened = open_page if opens_browser else None

        def overdue() -> None:
            shutil.rmtree(folder, ignore_errors=True)
            log.info("stopped late")
            entry_point.exit_at_once()

        server.Server(api, cfg.stop_seconds, opened, overdue).run(sockets=[listener])
    log.info("stopped")


def open_page(address: str) -> None:
    """Open the page in this computer's browser, if it has a screen."""
    has_screen = {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    if sys.platform != "linux" or has_screen:  # else Python opens a browser in the terminal
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def has_page(cfg: DictConfig) -> bool:
    """Return whether the configuration wants the page.

    Raises:
        InputError: The value is wrong.
    """
    if cfg.page == "auto":
        return importlib.util.find_spec("gradio") is not None
    if not isinstance(cfg.page, bool):
        require_one_of(("true", "false", "auto"), "", page=cfg.page)
    return bool(cfg.page)


def build_api(cfg: DictConfig, folder: Path) -> "ConversionApi":
    """Build the endpoints from the configuration.

    Args:
        cfg: The configuration `conf/serve.yaml`.
        folder: Folder for recordings and results while a request runs.

    Raises:
        InputError: A value is wrong, a weight file cannot be used, or a key is missing.
    """
    from vc_lightning.service.access import Access
    from vc_lightning.service.app import ConversionApi
    from vc_lightning.service.engine.conversions import ConversionService
    from vc_lightning.service.limits import LiveLimits, ServiceLimits
    from vc_lightning.service.live.desk import LiveDesk

    access = Access(cfg.host, api_keys(cfg), cfg.public_name)
    limits, live_limits = limits_in(cfg, ServiceLimits), limits_in(cfg.live, LiveLimits)
    voices = paths.single_path(cfg.voices.dir, "voices.dir")
    service = ConversionService(build_converters(cfg), voices, limits)
    target = None
    if cfg.live.target:
        converter = service.converters.get(service.converters.default)
        target = VoiceShelf(voices).find(target_of(cfg.live.target, voices), converter)
    lengths = (cfg.live.block_seconds, cfg.live.lookahead_seconds)
    live = LiveDesk(service, live_limits, access, target, *lengths, cfg.live.listens)
    return ConversionApi(service, live, access, folder)


def limits_in(cfg: DictConfig, kind: type[Limits]) -> Limits:
    """Make limits, a dataclass, of the keys that are named like its fields.

    Raises:
        InputError: A limit is out of range.
    """
    return kind(**{field.name: cfg[field.name] for field in dataclasses.fields(kind)})


def build_converters(cfg: DictConfig) -> "Converters":
    """Load the default converter, and offer the other checkpoints and vocoders.

    Raises:
        InputError: A value is wrong or a file cannot be used.
    """
    from vc_lightning.service.engine.converters import Converters

    checkpoints: dict[str, Path | str] = {"shipped": resources.AUTOVC}
    if cfg.ckpt and cfg.ckpt != str(resources.AUTOVC):
        checkpoints = {Path(cfg.ckpt).stem: cfg.ckpt}
    if cfg.checkpoints:
        suffixes = frozenset([".safetensors", ".ckpt"])
        for path in paths.existing_paths(cfg.checkpoints, "checkpoints", suffixes, "weight files"):
            if checkpoints.setdefault(path.stem, path) != path:
                log.warning("checkpoints: %s is left out: another one has this name", path)

    def load(path: Path | str) -> VoiceConverter:
        chosen = copy.deepcopy(cfg)
        chosen.ckpt = str(path)
        return builders.build_converter(chosen)

    vocoders = {"auto": instantiate(cfg.vocoder)}
    vocoders |= {name: instantiate(group) for name, group in cfg.vocoders.items()}
    return Converters(checkpoints, vocoders, load, cfg.seed)


def api_keys(cfg: DictConfig) -> list[str]:
    """Read the accepted API keys from the environment and from a file.

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
    entry_point.exit_at_once()
