"""Build Lightning's loggers from the group `logger`; turn their errors into one sentence."""

import sys
from collections.abc import Sequence

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from vc_lightning.common.errors import InputError

EXTRAS = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow"}  # by class
ERRORS = {"wandb.errors": "Error", "mlflow.exceptions": "MlflowException"}  # of these packages


def build_logger(cfg: DictConfig) -> Logger | bool:
    """Build the logger of the group `logger`.

    Args:
        cfg: The configuration of the group.

    Returns:
        The logger, or False for none.

    Raises:
        InputError: The logger's package is missing, or raises an error of its own.
    """
    name = cfg["_target_"].rpartition(".")[2]
    try:
        return instantiate(cfg)
    except InstantiationException as error:
        extra = EXTRAS.get(name)
        if extra and isinstance(error.__cause__, ModuleNotFoundError):
            raise InputError(
                f"logger={extra}: {error.__cause__.name} is missing; "
                f"pip install 'vc-lightning[{extra}]'"
            ) from error
        if isinstance(error.__cause__, _package_errors()):
            raise InputError(f"logger={extra}: {error.__cause__}") from error
        raise


def log_config(logger: Logger, config: dict) -> None:
    """Log the configuration, which also opens the logger's run.

    Args:
        logger: The logger.
        config: The composed configuration.

    Raises:
        InputError: The logger's service refuses or cannot be reached.
        OSError: The folder cannot be written.
    """
    name = type(logger).__name__
    try:
        logger.log_hyperparams(config)
    except _package_errors() as error:
        raise InputError(f"logger={EXTRAS.get(name, name)}: {error}") from error
    except ValueError as error:  # Lightning turns all errors into ValueErrors
        raise error.__cause__ if isinstance(error.__cause__, OSError) else error from None


def finish(loggers: Sequence[Logger]) -> None:
    """End the runs of W&B, which would otherwise continue in the next job of a sweep.

    Args:
        loggers: The loggers of a training that has ended.
    """
    if any(type(logger).__name__ == "WandbLogger" for logger in loggers):
        sys.modules["wandb"].finish()


def _package_errors() -> tuple[type[Exception], ...]:
    """List the exceptions of the packages that are in use."""
    used = ((sys.modules.get(module), name) for module, name in ERRORS.items())
    return tuple(getattr(module, name) for module, name in used if module)
