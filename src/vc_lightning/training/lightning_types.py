"""Types that Lightning's own annotations leave open.

Hooks get any LightningModule, and the Trainer does not say which attributes it has.
"""

from typing import TypeVar

from pytorch_lightning import Callback, Trainer

from vc_lightning.data.base_datamodule import TrainingDataModule

T = TypeVar("T")


def require_instance(value: object, kind: type[T]) -> T:
    """Return a value that must be of a type.

    Raises:
        TypeError: It is of another one.
    """
    if not isinstance(value, kind):
        raise TypeError(f"needs a {kind.__name__}, not a {type(value).__name__}")
    return value


def datamodule_of(trainer: Trainer) -> TrainingDataModule:
    """Return the data that a Trainer trains on."""
    data = trainer.datamodule  # type: ignore[attr-defined]  # set elsewhere in Lightning
    return require_instance(data, TrainingDataModule)


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """Return the callbacks of a Trainer."""
    return trainer.callbacks  # type: ignore[attr-defined]  # set elsewhere in Lightning


def log_interval(trainer: Trainer) -> int:
    """Return how many steps lie between two logged ones."""
    return trainer.log_every_n_steps  # type: ignore[attr-defined]  # set elsewhere in Lightning
