"""Mels and sound of a network's output during training, for TensorBoard."""

from collections.abc import Callable

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from vc_lightning.common.plots import mel_figure, pixels
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.network import Network
from vc_lightning.models.vocoders.base import Vocoder
from vc_lightning.training.callbacks.regular import RegularCallback
from vc_lightning.training.conversion import convert
from vc_lightning.training.lightning_types import datamodule_of, require_instance

MAX_PROJECTED = 2_000  # embeddings; TensorBoard's projector is slow with more


class Conversions(RegularCallback):
    """Writes AutoVC's conversions between held-out speakers, each into the next one's voice.

    For the other arguments see `RegularCallback`.

    Args:
        vocoder: Makes a vocoder from a mel-spectrogram.
    """

    group = "callbacks.samples"
    acts_at_end = True

    def __init__(
        self, every_n_steps: int, n_speakers: int, max_frames: int, vocoder: Callable[..., Vocoder]
    ):
        super().__init__(every_n_steps, n_speakers, max_frames)
        self.make_vocoder = vocoder

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the recordings, make the vocoder, and write speaker embeddings."""
        super().on_fit_start(trainer, pl_module)
        data = datamodule_of(trainer)
        self.vocoder = self.make_vocoder(mel=data.mel)
        if writer := tensorboard_writer(trainer):
            embeddings, speakers = data.embeddings(MAX_PROJECTED)
            writer.add_embedding(embeddings, speakers, tag="speakers")

    def act(self, trainer: Trainer, network: Network) -> None:
        """Write each source, its reconstruction and its conversion."""
        if not (writer := tensorboard_writer(trainer)):
            return
        step, mel = trainer.global_step, datamodule_of(trainer).mel
        autovc = require_instance(network, AutoVC)
        for source, target in self.pairs():
            mels = {
                "source": source.mel[None, :, : self.max_frames],
                "reconstruction": convert(autovc, mel, source, source, self.max_frames),
                "conversion": convert(autovc, mel, source, target, self.max_frames),
            }
            title = f"{source.speaker}_to_{target.speaker}"
            figure = mel_figure(mels, mel.hop_length / mel.sample_rate)
            writer.add_image(f"mel/{title}", pixels(figure), step, dataformats="HWC")
            for name, value in mels.items():
                wav = self.vocoder.generate(value.float().clamp(0, 1).cpu())[0]
                writer.add_audio(f"{title}/{name}", wav.clamp(-1, 1), step, mel.sample_rate)


class CopySynthesis(RegularCallback):
    """Writes held-out recordings that the vocoder being trained makes from their mels."""

    group = "callbacks.samples"
    acts_at_end = True

    def act(self, trainer: Trainer, network: Network) -> None:
        """Write the mels of each recording and of the vocoder's output, and the output."""
        if not (writer := tensorboard_writer(trainer)):
            return
        step, mel = trainer.global_step, datamodule_of(trainer).mel
        if not isinstance(network, Vocoder):
            raise TypeError(f"a {type(network).__name__} is not a vocoder")
        device = next(network.parameters()).device
        for example in self.examples:
            target = example.mel[None, :, : self.max_frames].to(device)
            wav = network.generate(target).cpu()
            mels = {"recording": target, "vocoder": mel(wav)[..., : target.shape[-1]]}
            figure = mel_figure(mels, mel.hop_length / mel.sample_rate)
            writer.add_image(f"mel/{example.speaker}", pixels(figure), step, dataformats="HWC")
            writer.add_audio(f"{example.speaker}", wav[0].clamp(-1, 1), step, mel.sample_rate)


def tensorboard_writer(trainer: Trainer) -> SummaryWriter | None:
    """Return the TensorBoard writer; None in other processes or without that logger."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            return logger.experiment
    return None
