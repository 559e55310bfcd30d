"""Pictures and sound of conversions while the network learns."""

from collections.abc import Callable
from typing import Protocol

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from vc_lightning.callbacks import averaged_network
from vc_lightning.charts import picture
from vc_lightning.crops import Batch, Example
from vc_lightning.errors import require_at_least
from vc_lightning.lit_autovc import LitAutoVC
from vc_lightning.mel import MelSpectrogram
from vc_lightning.voice_converter import Vocoder

MAX_PROJECTED = 2_000  # embeddings that TensorBoard's projector shows smoothly


class Showable(Protocol):
    """What is asked of a data module, whether it reads a folder or a stream."""

    mel: MelSpectrogram

    def examples(self, n_speakers: int) -> list[Example]:
        """One utterance each of so many speakers, or of fewer."""

    def embeddings(self, limit: int) -> tuple[Tensor, list[str]]:
        """Embeddings (N, E) of up to so many utterances, and whose they are."""


class Samples(Callback):
    """Pictures and sound of conversions between held-out speakers, for TensorBoard.

    Args:
        every_n_steps: how often; `n_speakers`: between how many speakers, each into the next.
        vocoder: from mel settings to what makes them audible.
        max_frames: cut of the recordings.
    """

    def __init__(
        self, every_n_steps: int, n_speakers: int, max_frames: int, vocoder: Callable[..., Vocoder]
    ):
        require_at_least(
            1,
            "callbacks.samples",
            every_n_steps=every_n_steps,
            n_speakers=n_speakers,
            max_frames=max_frames,
        )
        self.every_n_steps = every_n_steps
        self.n_speakers = n_speakers
        self.max_frames = max_frames
        self.make_vocoder = vocoder

    def on_fit_start(self, trainer: Trainer, pl_module: LitAutoVC) -> None:
        data: Showable = trainer.datamodule
        self.vocoder = self.make_vocoder(mel=data.mel)
        if writer := tensorboard_writer(trainer):
            self.examples = data.examples(self.n_speakers)
            writer.add_embedding(*data.embeddings(MAX_PROJECTED), tag="speakers")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LitAutoVC, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps == 0:
            self.write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LitAutoVC) -> None:
        if trainer.global_step % self.every_n_steps != 0:
            self.write(trainer)

    @torch.no_grad()
    def write(self, trainer: Trainer) -> None:
        """Converts every chosen recording into the next one's voice."""
        writer = tensorboard_writer(trainer)
        if writer is None:
            return
        network = averaged_network(trainer)
        device = next(network.parameters()).device
        targets = self.examples[1:] + self.examples[:1]
        for source, target in zip(self.examples, targets, strict=True):
            mel = source.mel[None, :, : self.max_frames].to(device)
            voices = [example.embedding[None].to(device) for example in (source, target)]
            was_training = network.training
            network.eval()
            mels = {
                "source": mel,
                "reconstruction": network(mel, voices[0], voices[0])[1],
                "conversion": network(mel, voices[0], voices[1])[1],
            }
            network.train(was_training)
            title = f"{source.speaker}_to_{target.speaker}"
            step = trainer.global_step
            writer.add_image(f"mel/{title}", picture(list(mels.values())), step, dataformats="HWC")
            for name, value in mels.items():
                wav = self.vocoder.generate(value.float().clamp(0, 1).cpu())[0]
                sample_rate = trainer.datamodule.mel.sample_rate
                writer.add_audio(f"{title}/{name}", wav.clamp(-1, 1), step, sample_rate)


def tensorboard_writer(trainer: Trainer) -> SummaryWriter | None:
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            return logger.experiment
    return None
