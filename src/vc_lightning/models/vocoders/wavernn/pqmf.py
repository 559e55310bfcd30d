"""A pseudo-quadrature mirror filterbank (PQMF), which splits sound into bands and joins them."""

import functools

import numpy as np
import scipy
import torch
from torch import Tensor, nn
from torch.nn import functional as F

TAPS_PER_BAND = 16  # length of the filters in samples of a band
KAISER_BETA = 9.0  # attenuates non-adjacent bands by about 90 dB


class PQMF(nn.Module):
    """Cosine-modulated filterbank with nearly perfect reconstruction (Nguyen 1994).

    The prototype is a Kaiser-windowed low-pass. Its cutoff is chosen so that analysis followed by
    synthesis is as close to a pure delay as possible (Lin & Vaidyanathan 1998).

    Args:
        bands: Number of bands; each has the sample rate divided by `bands`.
    """

    to_bands: Tensor  # kernels (bands, 1, taps)
    to_sound: Tensor

    def __init__(self, bands: int):
        super().__init__()
        self.bands = bands
        prototype = best_prototype(bands)
        n = np.arange(len(prototype)) - (len(prototype) - 1) / 2
        centre = (2 * np.arange(bands)[:, None] + 1) * np.pi / (2 * bands)
        phase = (-1) ** np.arange(bands)[:, None] * np.pi / 4
        to_bands = 2 * prototype * np.cos(centre * n + phase)
        to_sound = 2 * prototype * np.cos(centre * n - phase)
        # Reversed, because PyTorch's convolution is a cross-correlation.
        self.register_buffer("to_bands", _kernels(to_bands[:, ::-1]), persistent=False)
        self.register_buffer("to_sound", _kernels(bands * to_sound), persistent=False)

    @property
    def reach(self) -> int:
        """Samples of sound on each side of a band's sample that it depends on."""
        return self.to_bands.shape[-1] // 2

    def analyse(self, wav: Tensor) -> Tensor:
        """Split sound into bands.

        Args:
            wav: Samples (B, N), N a multiple of `bands`.

        Returns:
            Bands (B, N / bands, bands).
        """
        padded = F.pad(wav, (self.reach, self.reach))
        return F.conv1d(padded[:, None], self.to_bands, stride=self.bands)[
            ..., : wav.shape[-1] // self.bands
        ].transpose(1, 2)

    def continue_synthesis(self, bands: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Join the next piece of bands; the sound is delayed by `reach` samples.

        Args:
            bands: Bands (B, L, bands).
            tail: Contribution (B, n) of the pieces before to the sound; n = 0 at the first piece.

        Returns:
            Sound (B, L · bands), and the tail for the next piece.
        """
        made = F.conv_transpose1d(bands.transpose(1, 2), self.to_sound, stride=self.bands)[:, 0]
        made = made + F.pad(tail, (0, made.shape[1] - tail.shape[1]))
        n_complete = bands.shape[1] * self.bands
        return made[:, :n_complete], made[:, n_complete:]


def _kernels(filters: np.ndarray) -> Tensor:
    return torch.from_numpy(filters.astype(np.float32).copy())[:, None]


@functools.cache
def best_prototype(bands: int) -> np.ndarray:
    """Design the prototype low-pass of a PQMF.

    Its cutoff brings the filter's autocorrelation as close as possible to a Nyquist filter.

    Args:
        bands: Number of bands.

    Returns:
        Coefficients (TAPS_PER_BAND · bands + 1,).
    """
    n_taps = TAPS_PER_BAND * bands + 1

    def prototype(cutoff: float) -> np.ndarray:
        return scipy.signal.firwin(n_taps, cutoff, window=("kaiser", KAISER_BETA))

    def unevenness(cutoff: float) -> float:
        around_zero = np.convolve(prototype(cutoff), prototype(cutoff))[n_taps - 1 :: 2 * bands]
        return np.abs(around_zero[1:]).max()

    middle = 1 / (2 * bands)
    found = scipy.optimize.minimize_scalar(
        unevenness, bounds=(middle, 2 * middle), method="bounded", options={"xatol": 1e-9}
    )
    return prototype(found.x)
