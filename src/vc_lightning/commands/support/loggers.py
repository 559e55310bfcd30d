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


def build_loggers(cfg: DictConfig | None) -> list[Logger]:
    """Build the loggers of the group `logger`.

    Args:
        cfg: The configuration of the group: the loggers by name, or None.

    Raises:
        InputError: A logger's package is missing or raises an error of its own, or a value is not
            a logger.
    """
    return [build_logger(str(name), logger) for name, logger in (cfg or {}).items()]


def build_logger(name: str, cfg: object) -> Logger:
    """Build one logger; see `build_loggers`."""
    if not isinstance(cfg, DictConfig):
        raise InputError(
            f"logger.{name}={cfg}: has keys of its own; to leave it out, give ~logger.{name}"
        )
    try:
        logger = instantiate(cfg)
    except InstantiationException as error:
        extra = EXTRAS.get(cfg["_target_"].rpartition(".")[2])
        if extra and isinstance(error.__cause__, ModuleNotFoundError):
            raise InputError(
                f"logger={extra}: {error.__cause__.name or extra} is missing; "
                f"pip install 'vc-lightning[{extra}]'"
            ) from error
        if isinstance(error.__cause__, _package_errors()):
            raise InputError(f"logger={extra}: {error.__cause__}") from error
        raise
    if not isinstance(logger, Logger):
        raise InputError(f"logger.{name}: is not a logger; to leave it out, give ~logger.{name}")
    return logger


def log_config(logger: Logger, config: dict) -> None:
    """Log the configuration, which also opens the logger's run.

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
    """End the runs of W&B, which would otherwise continue in the next job of a sweep."""
    if any(type(logger).__name__ == "WandbLogger" for logger in loggers):
        sys.modules["wandb"].finish()


def _package_errors() -> tuple[type[Exception], ...]:
    """List the exceptions of the packages that are in use."""
    used = ((sys.modules.get(module), name) for module, name in ERRORS.items())
    return tuple(getattr(module, name) for module, name in used if module)
