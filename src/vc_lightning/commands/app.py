"""Open the service's page in a browser: python app.py"""

import hydra
from omegaconf import DictConfig

from vc_lightning.commands import serve
from vc_lightning.commands.support import entry_point
from vc_lightning.common import resources


@hydra.main(version_base="1.3", config_path=str(resources.CONF), config_name="app")
@entry_point.reports_input_errors
def main(cfg: DictConfig) -> None:
    """Serve as `serve.py` does, and open the page.

    Raises:
        InputError: A value is wrong, the port is taken, or the extra `demo` is missing.
    """
    serve.serve(cfg, opens_browser=cfg.browser)


def run() -> None:
    """Run `python app.py`, or `vc-app` where the package is installed."""
    entry_point.run(main, "app")
    entry_point.exit_at_once()
