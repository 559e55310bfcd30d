"""Power spectra, and filters that are equally spaced on the mel scale."""

import functools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

HZ_PER_MEL = 200 / 3  # below the knee of Slaney's mel scale
KNEE_HZ = 1000.0
KNEE_MEL = KNEE_HZ / HZ_PER_MEL
LOG_STEP = np.log(6.4) / 27  # natural logarithm of the frequency per mel above the knee
FRAMES_AT_ONCE = 4096  # bounds the memory: the spectrum of an hour takes more than a gigabyte


def power_spectra(
    wav: Tensor, n_fft: int, hop_length: int, window: Tensor, pad_mode: str
) -> Iterator[Tensor]:
    """Yield |STFT|² of samples (..., n) in blocks (..., n_fft/2 + 1, up to FRAMES_AT_ONCE).

    Frames are centred on the samples 0, hop_length, …, as those of `torch.stft` are.
    """
    wav = F.pad(wav[None], (n_fft // 2, n_fft // 2), mode=pad_mode)[0]
    n_frames = (wav.shape[-1] - n_fft) // hop_length + 1
    for first in range(0, n_frames, FRAMES_AT_ONCE):
        last = min(first + FRAMES_AT_ONCE, n_frames) - 1
        spectrum = torch.stft(
            wav[..., first * hop_length : last * hop_length + n_fft],
            n_fft=n_fft,
            hop_length=hop_length,
            win_length=len(window),
            window=window,
            center=False,
            return_complex=True,
        )
        yield spectrum.real.square() + spectrum.imag.square()  # several times as fast as abs()


def mel_frequencies(n: int, fmin: float, fmax: float) -> np.ndarray:
    """Return n frequencies in Hz, equally spaced from fmin to fmax on Slaney's mel scale.

    The scale is linear up to 1000 Hz, three mels every 200 Hz, and logarithmic above.
    """
    ends = np.array([fmin, fmax])
    logarithmic = KNEE_MEL + np.log(np.maximum(ends, KNEE_HZ) / KNEE_HZ) / LOG_STEP
    low, high = np.where(ends < KNEE_HZ, ends / HZ_PER_MEL, logarithmic)
    mels = np.linspace(low, high, n)
    above = KNEE_HZ * np.exp(LOG_STEP * (mels - KNEE_MEL))
    return np.where(mels < KNEE_MEL, HZ_PER_MEL * mels, above)


def triangles(bins: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Compute overlapping triangles of height 1.

    Args:
        bins: Frequencies (B,).
        edges: Frequencies (n + 2,) in the same unit: triangle i rises from edge i to edge i + 1 and
            falls to edge i + 2.

    Returns:
        Their values at the bins, (n, B).
    """
    lower_edges, centres, upper_edges = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins - lower_edges) / (centres - lower_edges)
    falling = (upper_edges - bins) / (upper_edges - centres)
    return np.minimum(rising, falling).clip(min=0)


@functools.cache
def mel_filters(
    sample_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float, factor: float
) -> Tensor:
    """Compute Slaney's mel filters (n_mels, n_fft/2 + 1) on a stretched frequency axis.

    A VTLP factor of 1.2 makes a voice's formants and pitch 1.2 times as high at the same tempo.
    Bands above the recorded frequencies repeat the highest band below.
    """
    # Reading the bins as those of another sample rate moves every frequency by the same factor.
    bins = np.fft.rfftfreq(n_fft, 1 / (sample_rate * factor))
    edges = mel_frequencies(n_mels + 2, fmin, fmax)
    lower_edges, upper_edges = edges[:-2, None], edges[2:, None]
    of_equal_area = triangles(bins, edges) * 2 / (upper_edges - lower_edges)
    filters = of_equal_area.astype(np.float32)
    n_recorded = int((upper_edges <= sample_rate * factor / 2 * (1 + 1e-6)).sum())
    filters[n_recorded:] = filters[n_recorded - 1]
    filters *= np.float32(factor)  # the area is that of unstretched bins
    with torch.inference_mode(False):  # they are kept, and training may need them next
        return torch.from_numpy(filters)
