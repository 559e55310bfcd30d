"""Discriminators, which distinguish recordings from a vocoder's sound, and their losses."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

COMPRESSION = 0.3  # exponent of magnitudes, so that quiet parts count as well
SLOPE = 0.2  # of the leaky ReLU


class SpectrogramDiscriminators(nn.Module):
    """A network for each of several STFTs, as in EnCodec (Défossez et al. 2022, arXiv 2210.13438).

    Args:
        n_ffts: Window lengths in samples; the hop is a quarter of the window.
        channels: Number of channels of all layers.
    """

    def __init__(self, n_ffts: Sequence[int], channels: int):
        super().__init__()
        self.networks = nn.ModuleList(SpectrogramDiscriminator(n, channels) for n in n_ffts)

    def forward(self, wav: Tensor) -> list[list[Tensor]]:
        """Return the layer outputs of every network for wav (B, n); the last one is the score."""
        return [network(wav) for network in self.networks]


class SpectrogramDiscriminator(nn.Module):
    """Convolutions over time and frequency of a complex STFT.

    Args:
        n_fft: Window length in samples; the hop is a quarter of the window.
        channels: Number of channels of all layers.
    """

    window: Tensor

    def __init__(self, n_fft: int, channels: int):
        super().__init__()
        self.n_fft = n_fft
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        sizes = [(2, 4), (channels, 2), (channels, 2)]  # channels in, stride over frequency
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(n, channels, (3, 9), stride=(1, stride), padding=(1, 4)))
            for n, stride in sizes
        )
        self.output = weight_norm(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, wav: Tensor) -> list[Tensor]:
        """Return layer outputs (B, channels, T, bins), then the score (B, 1, T, bins)."""
        spectrum = torch.stft(
            wav.float(), self.n_fft, self.n_fft // 4, window=self.window, return_complex=True
        )
        magnitude = spectrum.abs().clamp(min=1e-5)
        x = torch.view_as_real(spectrum * magnitude ** (COMPRESSION - 1)).permute(0, 3, 2, 1)
        outputs = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
            outputs.append(x)
        return [*outputs, self.output(x)]


def discriminator_loss(recorded: list[list[Tensor]], generated: list[list[Tensor]]) -> Tensor:
    """Compute the hinge loss (Lim & Ye 2017, arXiv 1705.02894).

    It is 0 when recordings score above 1 and generated sound below −1.

    Args:
        recorded: Layer outputs of every discriminator for recordings.
        generated: Layer outputs of every discriminator for generated sound.
    """
    terms = [
        F.relu(1 - real[-1].float()).mean() + F.relu(1 + fake[-1].float()).mean()
        for real, fake in zip(recorded, generated, strict=True)
    ]
    return torch.stack(terms).mean()


def generator_losses(
    recorded: list[list[Tensor]], generated: list[list[Tensor]]
) -> tuple[Tensor, Tensor]:
    """Compute the adversarial and the feature-matching loss of the vocoder.

    Args:
        recorded: Layer outputs of every discriminator for recordings.
        generated: Layer outputs of every discriminator for generated sound.

    Returns:
        Minus the mean score of generated sound; mean absolute difference of the layer outputs,
        relative to their mean absolute value.
    """
    score = torch.stack([-fake[-1].float().mean() for fake in generated]).mean()
    distances = [
        (a.float() - b.float()).abs().mean() / a.float().abs().mean()
        for real, fake in zip(recorded, generated, strict=True)
        for a, b in zip(real[:-1], fake[:-1], strict=True)
    ]
    return score, torch.stack(distances).mean()
