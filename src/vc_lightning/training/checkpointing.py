"""The files of a training run: weights to use, and a checkpoint to resume from."""

import logging
import signal
import sys
from pathlib import Path
from shlex import quote
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from vc_lightning.common.errors import InputError, require_at_least
from vc_lightning.common.files import atomic_path
from vc_lightning.models import checkpoints
from vc_lightning.models.network import Network
from vc_lightning.training.callbacks.ema import averaged_network
from vc_lightning.training.lightning_types import datamodule_of, require_instance
from vc_lightning.training.resume import place_loops
from vc_lightning.training.tasks.base import AnyBatch, BaseModule

log = logging.getLogger(__name__)

EXIT_SIGNALLED = 128  # plus the signal's number, as shells expect


class WeightFiles(Callback):
    """Writes weights and `last.ckpt`, regularly and at the end.

    `<name>_step<n>_original.safetensors` holds the network at that step,
    `<name>_step<n>_average.safetensors` its moving average; `last.ckpt` resumes the run.
    After Ctrl-C or SIGTERM the current step is finished and saved, and the program ends; a second
    Ctrl-C ends it at once. The class name is a key in `last.ckpt` files: do not rename it.

    Args:
        dir: Folder of the files.
        name: Prefix of their names.
        every_n_steps: Optimizer steps between weight files.
        resume_every_n_steps: Optimizer steps between updates of `last.ckpt`.
        best: Name of a logged value such as "val/loss"; at each new minimum the average is written
            to `<name>_best_average.safetensors`. None for no such file.
    """

    def __init__(
        self, dir: str, name: str, every_n_steps: int, resume_every_n_steps: int, best: str | None
    ):
        require_at_least(
            1,
            "checkpoint",
            every_n_steps=every_n_steps,
            resume_every_n_steps=resume_every_n_steps,
        )
        self.dir = Path(dir)
        self.name = name
        self.every_n_steps = every_n_steps
        self.resume_every_n_steps = resume_every_n_steps
        self.best = best
        self.best_value = float("inf")
        self.saved_step = 0  # of last.ckpt
        self.weights_step = 0  # of the newest weight files
        self.planned = ""  # "weights" or "resume": what to save at the end of the step
        self.signal = 0  # number of the signal that was received

    @property
    def last(self) -> Path:
        """The file to resume from."""
        return self.dir / "last.ckpt"

    def path(self, step: int | None, weights: str) -> Path:
        """Name the file of the "average" or "original" weights of a step; None is the best step."""
        moment = "best" if step is None else f"step{step}"
        return self.dir / f"{self.name}_{moment}_{weights}.safetensors"

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that files can be written, before hours of training.

        Raises:
            InputError: They cannot.
        """
        try:
            self.dir.mkdir(parents=True, exist_ok=True)
            with atomic_path(self.path(0, f"rank{trainer.global_rank}")) as temporary:
                temporary.touch()
            self.path(0, f"rank{trainer.global_rank}").unlink()
        except OSError as error:
            raise InputError(
                f"checkpoint.dir={self.dir}, checkpoint.name={self.name}: cannot be written "
                f"({error.strerror}); name another folder or name"
            ) from error

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handle Ctrl-C and SIGTERM."""
        self.saved_step = self.weights_step = trainer.global_step  # 0 unless resumed
        # Lightning's handlers would end the run without saving. When the run ends, even by an
        # error, Lightning restores the handlers from before its own.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        if datamodule_of(trainer).start[1] == 0:
            trainer.fit_loop.epoch_loop.restarting = False  # of the epoch before

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let the Trainer go on at the data module's position."""
        data = datamodule_of(trainer)
        place_loops(checkpoint, *data.start, data.batches_per_epoch)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: AnyBatch,
        batch_idx: int,
    ) -> None:
        """Plan to save regularly; after a signal, save at once and end the program."""
        step = trainer.global_step
        if trainer.strategy.reduce_boolean_decision(self.signal > 0, all=False):
            self.save(trainer)
            log.warning("interrupted; resume with ckpt_path=%s", quote(str(self.last)))
            sys.exit(EXIT_SIGNALLED + (self.signal or signal.SIGTERM))
        if step == self.saved_step:
            return  # gradients are being accumulated: no optimizer step was taken
        if step % self.every_n_steps == 0:
            self.planned = "weights"
        elif step % self.resume_every_n_steps == 0:
            self.planned = self.planned or "resume"

    # A planned file is written when the step's validation and the end of its epoch, if there are
    # any, are over: so it holds what the other callbacks have made of them.

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: AnyBatch, batch_idx: int
    ) -> None:
        """Save what was planned before the next step."""
        self._save_planned(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what was planned before the next epoch."""
        self._save_planned(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the averaged weights if `best` has a new minimum; then save what was planned.

        Raises:
            InputError: `best` is not logged.
        """
        if trainer.sanity_checking:
            return
        if self.best is not None:
            self._save_best(trainer, self.best)
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._save_planned(trainer)

    def _save_best(self, trainer: Trainer, name: str) -> None:
        if name not in trainer.callback_metrics:
            logged = ", ".join(sorted(k for k in trainer.callback_metrics if k.startswith("val")))
            raise InputError(f"checkpoint.best={name}: is not logged; logged are {logged}")
        value = trainer.callback_metrics[name]
        if value < self.best_value:
            self.best_value = float(value)
            if trainer.is_global_zero:
                self._save_weights(trainer, None, "average", averaged_network(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last step."""
        self.save(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last step's weights, if the program was killed between `last.ckpt` and them.

        A run that is resumed after its last step calls no hook of training but this one.
        """
        step = trainer.global_step
        written = [self.path(step, weights).is_file() for weights in ("original", "average")]
        if step and self.last.is_file() and trainer.is_global_zero and not all(written):
            self._save_step(trainer, step)

    def _save_planned(self, trainer: Trainer) -> None:
        """Save, or log an error and continue the run, for example on a full disk."""
        planned, self.planned = self.planned, ""
        if not planned:
            return
        try:
            self.save(trainer, weights=planned == "weights")
        except (OSError, RuntimeError) as error:
            if trainer.world_size > 1:
                raise  # the other processes would wait for this one
            log.error(
                "step %d could not be saved (%s); the training run continues",
                trainer.global_step,
                error,
            )

    def save(self, trainer: Trainer, weights: bool = True) -> None:
        """Write `last.ckpt` and, with `weights`, both weight files; each is replaced atomically."""
        step = trainer.global_step
        if weights and step != self.weights_step and trainer.is_global_zero:
            self._save_step(trainer, step)
            self.weights_step = step
        if step == self.saved_step:
            return
        unfinished = self.dir / ".last.ckpt"
        try:
            trainer.save_checkpoint(unfinished, weights_only=False)  # must run on every rank
        except BaseException as error:
            unfinished.unlink(missing_ok=True)  # Lightning may have written half of it
            if isinstance(error, OSError) and error.errno:  # Lightning's names no file
                raise OSError(error.errno, error.strerror, str(self.last)) from error
            raise
        if trainer.is_global_zero:
            unfinished.replace(self.last)
        self.saved_step = step

    def _save_step(self, trainer: Trainer, step: int) -> None:
        network = require_instance(trainer.lightning_module, BaseModule).network
        self._save_weights(trainer, step, "original", network)
        self._save_weights(trainer, step, "average", averaged_network(trainer))

    def _save_weights(
        self, trainer: Trainer, step: int | None, weights: str, network: Network
    ) -> None:
        card = require_instance(trainer.lightning_module, BaseModule).current_card(weights)
        checkpoints.save(self.path(step, weights), network.state_dict(), card)

    def state_dict(self) -> dict:
        """Return the minimum of `best`, for `last.ckpt`."""
        return {"best_value": self.best_value}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore the minimum of `best`."""
        self.best_value = state_dict["best_value"]
