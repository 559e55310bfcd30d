"""What is done regularly during training, once per optimizer step."""

import contextlib
from collections.abc import Iterator
from typing import ClassVar

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn

from vc_lightning.common.errors import require_at_least
from vc_lightning.data.crops.mel import Example
from vc_lightning.models.network import Network
from vc_lightning.training.callbacks.ema import averaged_network
from vc_lightning.training.lightning_types import datamodule_of
from vc_lightning.training.tasks.base import AnyBatch


class RegularCallback(Callback):
    """Does something every `every_n_steps` optimizer steps with some held-out recordings.

    Subclasses define what (`act`).

    Args:
        every_n_steps: Optimizer steps between two times.
        n_speakers: Number of speakers, one recording each.
        max_frames: Longer recordings are cut to this number of frames.
    """

    group: ClassVar[str]  # of the keys, for error messages
    acts_at_end: ClassVar[bool] = False  # whether it also acts after the last step

    def __init__(self, every_n_steps: int, n_speakers: int, max_frames: int):
        counts = {"every_n_steps": every_n_steps, "n_speakers": n_speakers}
        require_at_least(1, self.group, **counts, max_frames=max_frames)
        self.every_n_steps = every_n_steps
        self.n_speakers = n_speakers
        self.max_frames = max_frames
        self.last_step = 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the recordings."""
        self.examples = datamodule_of(trainer).examples(self.n_speakers)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Treat the step of a resumed checkpoint as done."""
        self.last_step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: AnyBatch,
        batch_idx: int,
    ) -> None:
        """Act every `every_n_steps` optimizer steps."""
        step = trainer.global_step  # the same for several batches if gradients are accumulated
        if step % self.every_n_steps == 0 and step != self.last_step:
            self.last_step = step
            self.act_with_average(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Act after the last step, if that is wanted."""
        if self.acts_at_end and trainer.global_step != self.last_step:
            self.act_with_average(trainer)

    @torch.no_grad()
    def act_with_average(self, trainer: Trainer) -> None:
        """Act with the averaged network in eval mode, in the first process."""
        if trainer.is_global_zero:
            network = averaged_network(trainer)
            with in_eval_mode(network):
                self.act(trainer, network)

    def act(self, trainer: Trainer, network: Network) -> None:
        """Do it with a network."""
        raise NotImplementedError

    def pairs(self) -> Iterator[tuple[Example, Example]]:
        """Pair each recording with the next one, into whose voice it is converted."""
        return zip(self.examples, self.examples[1:] + self.examples[:1], strict=True)


@contextlib.contextmanager
def in_eval_mode(network: nn.Module) -> Iterator[None]:
    """Set a network to eval mode; afterwards each part has the mode that it had."""
    training = {module: module.training for module in network.modules()}
    network.eval()
    yield
    for module, was_training in training.items():
        module.training = was_training
