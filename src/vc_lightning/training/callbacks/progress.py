"""Speed and progress of a training run."""

import math
import time

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities.types import STEP_OUTPUT
from tqdm import tqdm

from vc_lightning.common.errors import InputError
from vc_lightning.training.lightning_types import log_interval, require_instance
from vc_lightning.training.tasks.base import AnyBatch, BaseModule


class DivergedError(InputError):
    """The loss is not finite any more."""


def total_steps(trainer: Trainer) -> int | None:
    """Return the number of optimizer steps of the whole run; None if nothing limits it."""
    steps = trainer.estimated_stepping_batches
    return int(steps) if math.isfinite(steps) else None


def loss_of(outputs: STEP_OUTPUT) -> float:
    """Return the loss of a training step from the `outputs` of a callback."""
    return require_instance(outputs, dict)["loss"].item()


class Throughput(Callback):
    """Logs optimizer steps and seconds of speech per second; ends a training run that diverged."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start measuring."""
        self._restart(trainer)

    def _restart(self, trainer: Trainer) -> None:
        self.since = time.perf_counter()
        self.first_step = trainer.global_step
        self.n_frames = 0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: AnyBatch,
        batch_idx: int,
    ) -> None:
        """Log the speed every `log_every_n_steps` steps.

        Raises:
            DivergedError: The loss is not finite.
        """
        self.n_frames += batch.n_frames
        if trainer.global_step - self.first_step < log_interval(trainer):
            return
        loss = loss_of(outputs)
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} at step {trainer.global_step}; "
                "lower optimizer.lr or set trainer.precision=32"
            )
        seconds = time.perf_counter() - self.since
        mel = require_instance(pl_module, BaseModule).card.mel
        speech = self.n_frames * mel["hop_length"] / mel["sample_rate"]
        steps = trainer.global_step - self.first_step
        pl_module.log("train/steps_per_second", steps / seconds)
        pl_module.log("train/speech_seconds_per_second", speech / seconds)
        self._restart(trainer)


class StepBar(Callback):
    """A progress bar of the whole training run: steps, time left, loss and learning rate."""

    def __init__(self) -> None:
        self.bar = tqdm(disable=True)  # until training starts

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar in the first process."""
        self.bar = tqdm(
            total=total_steps(trainer),
            initial=trainer.global_step,
            desc="training",
            unit="step",
            dynamic_ncols=True,
            disable=not trainer.is_global_zero,
        )

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: AnyBatch,
        batch_idx: int,
    ) -> None:
        """Advance the bar to this step."""
        if trainer.global_step % log_interval(trainer) == 0:
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            self.bar.set_postfix(loss=f"{loss_of(outputs):.4f}", lr=f"{lr:.2e}", refresh=False)
        self.bar.update(trainer.global_step - self.bar.n)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the error's sentence begins a line of its own."""
        self.bar.close()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the bar."""
        self.bar.close()
