"""The progress bar of a training run."""

import math

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities.types import STEP_OUTPUT
from tqdm import tqdm

from vc_lightning.training.lightning_types import log_interval, loss_of
from vc_lightning.training.tasks.base import AnyBatch


def total_steps(trainer: Trainer) -> int | None:
    """Return the number of optimizer steps of the whole run; None if nothing limits it."""
    steps = trainer.estimated_stepping_batches
    return int(steps) if math.isfinite(steps) else None


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
