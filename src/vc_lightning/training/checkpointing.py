"""The files of a training: weights to use, and a checkpoint to resume from."""

import logging
import signal
from pathlib import Path
from shlex import quote
from types import FrameType

from pytorch_lightning import Callback, LightningModule, Trainer
from safetensors import SafetensorError

from vc_lightning.common.errors import InputError, require_at_least
from vc_lightning.common.files import atomic_path
from vc_lightning.models import checkpoints
from vc_lightning.training.base_module import AnyBatch, AnyNetwork, BaseModule
from vc_lightning.training.ema import averaged_network
from vc_lightning.training.lightning_types import require_instance

log = logging.getLogger(__name__)

EXIT_SIGNALLED = 128  # plus the signal's number, as shells expect


class Interrupted(SystemExit):
    """The training was asked to stop, has saved, and ends."""


class WeightFiles(Callback):
    """Writes weights and `last.ckpt`, regularly and at the end.

    `<name>_step<n>_original.safetensors` holds the network at that step,
    `<name>_step<n>_average.safetensors` its moving average; `last.ckpt` resumes the training.
    Ctrl-C and SIGTERM let the current step finish, save and end the program; a second Ctrl-C ends
    it at once. The class name is a key of `last.ckpt` files, so it stays.

    Args:
        dir: Folder of the files.
        name: Prefix of their names.
        every_n_steps: Optimizer steps between weight files.
        resume_every_n_steps: Optimizer steps between updates of `last.ckpt`.
        best: A logged value such as "val/loss"; whenever it reaches a new minimum, the average is
            kept as `<name>_best_average.safetensors`. None for no such file.
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
        self.weights_step = 0  # of the newest weights
        self.signal = 0

    @property
    def last(self) -> Path:
        """The file to resume from."""
        return self.dir / "last.ckpt"

    def path(self, step: int | None, weights: str) -> Path:
        """Name the file of the "average" or "original" weights of a step; None is the best."""
        moment = "best" if step is None else f"step{step}"
        return self.dir / f"{self.name}_{moment}_{weights}.safetensors"

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fail now, not after hours, when the folder cannot be written."""
        try:
            self.dir.mkdir(parents=True, exist_ok=True)
            with atomic_path(self.path(0, f"rank{trainer.global_rank}")) as temporary:
                temporary.touch()
            self.path(0, f"rank{trainer.global_rank}").unlink()
        except OSError as error:
            raise InputError(
                f"checkpoint.dir={self.dir}, checkpoint.name={self.name}: cannot be written "
                f"({error.strerror}); name another"
            ) from error

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.saved_step = self.weights_step = trainer.global_step  # of what is resumed, or 0
        # Lightning's own handlers, set before, would end the training without saving. At its end,
        # by an error, too, Lightning restores the handlers that it found.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: AnyBatch,
        batch_idx: int,
    ) -> None:
        step = trainer.global_step
        asked_to_stop = trainer.strategy.reduce_boolean_decision(self.signal > 0, all=False)
        if asked_to_stop:
            self.save(trainer)
            log.warning("interrupted; resume with ckpt_path=%s", quote(str(self.last)))
            raise Interrupted(EXIT_SIGNALLED + (self.signal or signal.SIGTERM))
        if step == self.saved_step:
            return  # gradients are being accumulated: no optimizer step was taken
        if step % self.every_n_steps == 0:
            self._try_to_save(trainer, weights=True)
        elif step % self.resume_every_n_steps == 0:
            self._try_to_save(trainer, weights=False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or self.best is None:
            return
        if self.best not in trainer.callback_metrics:
            logged = ", ".join(sorted(k for k in trainer.callback_metrics if k.startswith("val")))
            raise InputError(f"checkpoint.best={self.best}: is not logged; logged are {logged}")
        value = trainer.callback_metrics[self.best]
        if not value < self.best_value:
            return
        self.best_value = float(value)
        if trainer.is_global_zero:
            self._save_weights(trainer, None, "average", averaged_network(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer)

    def _try_to_save(self, trainer: Trainer, weights: bool) -> None:
        """Try to save; after a failure, such as a full disk, the training continues."""
        try:
            self.save(trainer, weights)
        except (OSError, RuntimeError, SafetensorError) as error:
            if trainer.world_size > 1:
                raise  # the other processes wait for this one
            log.error(
                "step %d could not be saved (%s); the training continues",
                trainer.global_step,
                error,
            )

    def save(self, trainer: Trainer, weights: bool = True) -> None:
        """Write `last.ckpt` and, if asked, both weight files; each replaces a complete file."""
        step = trainer.global_step
        if weights and step != self.weights_step and trainer.is_global_zero:
            network = require_instance(trainer.lightning_module, BaseModule).network
            self._save_weights(trainer, step, "original", network)
            self._save_weights(trainer, step, "average", averaged_network(trainer))
            self.weights_step = step
        if step == self.saved_step:
            return
        unfinished = self.dir / ".last.ckpt"  # save_checkpoint runs on every rank
        try:
            trainer.save_checkpoint(unfinished, weights_only=False)
        except BaseException:
            unfinished.unlink(missing_ok=True)  # Lightning may have copied half of it here
            raise
        if trainer.is_global_zero:
            unfinished.replace(self.last)
        self.saved_step = step

    def _save_weights(
        self, trainer: Trainer, step: int | None, weights: str, network: AnyNetwork
    ) -> None:
        card = require_instance(trainer.lightning_module, BaseModule).current_card(weights)
        checkpoints.save(self.path(step, weights), network.state_dict(), card)

    def state_dict(self) -> dict:
        return {"best_value": self.best_value}

    def load_state_dict(self, state_dict: dict) -> None:
        self.best_value = state_dict["best_value"]
