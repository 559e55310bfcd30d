"""Write the conversion network as an ONNX file, or upload it: python export.py output=a.onnx"""

import logging

import hydra
from omegaconf import DictConfig

from vc_lightning.commands.support import entry_point, paths
from vc_lightning.common import resources
from vc_lightning.models.files.onnx_export import export_converter
from vc_lightning.models.files.sharing import push_to_hub

log = logging.getLogger("export")


@hydra.main(version_base="1.3", config_path=str(resources.CONF), config_name="export")
@entry_point.reports_input_errors
def main(cfg: DictConfig) -> None:
    """Write the file and log its size, or upload the weights and log the address."""
    ckpt = paths.single_path(cfg.ckpt or str(resources.AUTOVC), "ckpt")
    if cfg.hub is not None:
        log.info("%s", push_to_hub(ckpt, cfg.hub, private=cfg.hub_private, freq=cfg.ckpt_freq))
        return
    output = paths.writable_path(cfg.output, "output", ".onnx")
    size = export_converter(ckpt, output, cfg.ckpt_freq).stat().st_size
    log.info("%s: %.1f MB", cfg.output, size / 1e6)


def run() -> None:
    """Run `python export.py`, or `vc-export` where the package is installed."""
    entry_point.run(main, "export")
