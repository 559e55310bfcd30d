"""Typed access to what Lightning annotates loosely.

Its hooks take any LightningModule, and some attributes of its Trainer are not annotated.
"""

from typing import TypeVar

from pytorch_lightning import Trainer
from pytorch_lightning.utilities.types import STEP_OUTPUT

from vc_lightning.data.modules.base import TrainingDataModule

T = TypeVar("T")


def require_instance(value: object, kind: type[T]) -> T:
    """Return `value`, which must be an instance of `kind`.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(value, kind):
        raise TypeError(f"needs a {kind.__name__}, not a {type(value).__name__}")
    return value


def datamodule_of(trainer: Trainer) -> TrainingDataModule:
    """Return the data module of a Trainer."""
    data = trainer.datamodule  # type: ignore[attr-defined]  # set elsewhere in Lightning
    return require_instance(data, TrainingDataModule)


def log_interval(trainer: Trainer) -> int:
    """Return the number of steps between two logged steps."""
    return trainer.log_every_n_steps  # type: ignore[attr-defined]  # set elsewhere in Lightning


def loss_of(outputs: STEP_OUTPUT) -> float:
    """Return the loss of a training step from the `outputs` of a callback."""
    return require_instance(outputs, dict)["loss"].item()
