"""A network that estimates the linear spectrum from a mel-spectrogram."""

from torch import Tensor, nn
from torch.nn import functional as F

from vc_lightning.models.network import Network, State

KERNEL_SIZE = 3
AUDIBLE_DB = 60  # range below the loudest bin in which spectra are compared


class GriffinLimNet(Network):
    """Corrects a rough log-magnitude spectrum by convolutions over the frames of the mel.

    All values are in the scale of the mel (`MelSpectrogram.logarithm`), in which 0.01 is 1 dB.

    Args:
        n_mels: Mel bands.
        n_bins: Bins of the spectrum, n_fft/2 + 1.
        dim: Width of the convolutions.
        n_blocks: Residual convolutions; each widens the receptive field by one frame a side.
    """

    kind = vocoder = "griffin_lim"
    title = "Griffin-Lim"
    sizes_of_mels = ("n_mels",)

    def __init__(self, n_mels: int, n_bins: int, dim: int, n_blocks: int):
        super().__init__(locals())
        self.input = nn.Conv1d(n_mels, dim, KERNEL_SIZE, padding="same")
        self.blocks = nn.ModuleList(
            nn.Conv1d(dim, dim, KERNEL_SIZE, padding="same") for _ in range(n_blocks)
        )
        self.output = nn.Conv1d(dim, n_bins, 1)
        for parameter in self.output.parameters():
            nn.init.zeros_(parameter)  # the untrained network returns the rough spectrum

    @classmethod
    def sizes(cls, state: State) -> dict:
        dim, n_mels, _ = state["input.weight"].shape
        n_bins = len(state["output.weight"])
        n_blocks = sum(key.startswith("blocks.") for key in state) // 2  # weight and bias
        return {"n_mels": n_mels, "n_bins": n_bins, "dim": dim, "n_blocks": n_blocks}

    def forward(self, mel: Tensor, rough: Tensor) -> Tensor:
        """Refine rough (B, n_bins, T) with mel (B, n_mels, T) -> log-magnitude (B, n_bins, T)."""
        hidden = self.input(mel)  # (B, dim, T)
        for block in self.blocks:
            hidden = hidden + block(F.gelu(hidden))
        return rough + self.output(F.gelu(hidden))


def log_spectral_distance(spectrum: Tensor, reference: Tensor) -> Tensor:
    """Compute the log-spectral distance in dB: RMS over the bins, mean over the frames.

    Values more than 60 dB below the loudest bin count as equal.

    Args:
        spectrum: Log-magnitudes (..., n_bins, T) of one recording in the scale of the mel.
        reference: The true ones.
    """
    floor = reference.max() - AUDIBLE_DB / 100
    decibels = 100 * (spectrum.clamp(min=floor) - reference.clamp(min=floor))
    return decibels.square().mean(dim=-2).sqrt().mean()
