"""What is done regularly during training, once per optimizer step."""

from pytorch_lightning import Callback, LightningModule, Trainer

from vc_lightning.common.errors import require_at_least
from vc_lightning.training.tasks.base import AnyBatch


class RegularCallback(Callback):
    """Does something every `every_n_steps` optimizer steps with some held-out recordings.

    Subclasses define what (`act`).

    Args:
        group: Group of the keys, for error messages.
        every_n_steps: Optimizer steps between two times.
        n_speakers: Number of speakers, one recording each.
        max_frames: Longer recordings are cut to this number of frames.
    """

    def __init__(self, group: str, every_n_steps: int, n_speakers: int, max_frames: int):
        counts = {"every_n_steps": every_n_steps, "n_speakers": n_speakers}
        require_at_least(1, group, **counts, max_frames=max_frames)
        self.every_n_steps = every_n_steps
        self.n_speakers = n_speakers
        self.max_frames = max_frames
        self.last_step = 0

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
            self.act(trainer)

    def act(self, trainer: Trainer) -> None:
        """Do it, in every process."""
        raise NotImplementedError
