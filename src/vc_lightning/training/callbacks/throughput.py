"""The speed of a training run, and its end where the loss diverges."""

import math
import time

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities.types import STEP_OUTPUT

from vc_lightning.common.errors import InputError
from vc_lightning.training.lightning_types import log_interval, loss_of, require_instance
from vc_lightning.training.tasks.base import AnyBatch, BaseModule


class DivergedError(InputError):
    """The loss is not finite any more."""


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
