"""Training Griffin-Lim's network, which predicts magnitude spectra from mels."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.errors import InputError
from vc_lightning.data.crops.vocoder import VocoderBatch
from vc_lightning.data.modules.base import TrainingDataModule
from vc_lightning.models.vocoders.griffin_lim.network import GriffinLimNet, log_spectral_distance
from vc_lightning.training.tasks.base import BaseModule, RunSettings


class GriffinLimModule(BaseModule[GriffinLimNet, VocoderBatch]):
    """`GriffinLimNet`, trained on the mean squared error of the log-magnitude spectrum.

    Its arguments are those of `BaseModule`.

    Raises:
        InputError: The network has another number of bins than the spectra.
    """

    trains = (GriffinLimNet,)
    free_arguments = ()

    def __init__(self, network: GriffinLimNet, run: RunSettings):
        super().__init__(network, run)
        self.mel = MelSpectrogram(**self.card.mel)
        n_bins = self.mel.filters.shape[1]
        if network.arguments["n_bins"] != n_bins:
            raise InputError(
                f"model.n_bins={network.arguments['n_bins']}: spectra of mel.n_fft="
                f"{self.card.mel['n_fft']} have {n_bins} bins; set model.n_bins={n_bins}"
            )

    def initialize_from_data(self, data: TrainingDataModule) -> None:
        """Initialise the output bias to the mean error of the rough spectra in the first batch."""
        _, rough, target = self.spectra(next(iter(data.train_dataloader())).wav)
        self.network.output.get_parameter("bias").data.copy_((target - rough).mean(dim=(0, 2)))

    def losses(self, network: GriffinLimNet, batch: VocoderBatch) -> dict[str, Tensor]:
        """Compute `loss`, and `distance_db`, the log-spectral distance in dB."""
        mel, rough, target = self.spectra(batch.wav)
        spectrum = network(mel, rough).float()
        return {
            "loss": F.mse_loss(spectrum, target),
            "distance_db": mean_distance(spectrum.detach(), target),
        }

    def spectra(self, wav: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the network's inputs and its target.

        The mel is computed from the crop: that of the batch comes from the whole recording, and
        differs at the ends of the crop.

        Args:
            wav: Crops (B, n) at the level of the mels.

        Returns:
            The mel (B, n_mels, T), the rough log-magnitude spectrum (B, n_bins, T) that the
            network corrects, and the true one.
        """
        mel = self.mel(wav)
        return mel, self.mel.spectrum(mel), self.mel.log_magnitude(wav).clamp(min=0)


def mean_distance(spectra: Tensor, targets: Tensor) -> Tensor:
    """Average the log-spectral distance in dB over crops (B, n_bins, T)."""
    pairs = zip(spectra, targets, strict=True)
    return torch.stack([log_spectral_distance(*pair) for pair in pairs]).mean()
