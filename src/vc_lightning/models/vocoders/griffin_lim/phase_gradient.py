"""Phases for a magnitude spectrum, from the gradient of the log-magnitude."""

import math

import torch
from torch import Tensor

HANN_GAMMA = 0.25645  # width of the Gaussian that approximates a Hann window of length 1
FLOOR = 1e-5  # lowest magnitude in the logarithm


def propagated(
    magnitude: Tensor, n_fft: int, hop_length: int, win_length: int, start: Tensor
) -> Tensor:
    """Estimate phases that need few iterations of Griffin-Lim.

    For a Gaussian window, the phase gradient follows from the gradient of the log-magnitude
    (Průša, Balazs & Søndergaard 2017). The phase of every spectral peak is integrated over time,
    and the bins around a peak are locked to it (Laroche & Dolson 1999, phase vocoder).

    Args:
        magnitude: (B, n_bins, T), at least two frames of `torch.stft` with a Hann window.
        n_fft: Length of the FFT in samples.
        hop_length: Distance of the frames in samples.
        win_length: Length of the window in samples.
        start: Phases before the first frame (B, n_bins) in radians.

    Returns:
        Phases (B, n_bins, T) in radians.
    """
    along_bins, along_frames = torch.gradient(magnitude.clamp(min=FLOOR).log(), dim=(1, 2))
    stretch = HANN_GAMMA * win_length**2 / (hop_length * n_fft)
    bins = torch.arange(magnitude.shape[1], device=magnitude.device)[:, None]
    advance = along_bins / stretch + 2 * math.pi * hop_length / n_fft * bins  # radians per frame
    slope = -stretch * along_frames - math.pi  # radians per bin; frames count time from their edge
    advance = torch.cat([torch.zeros_like(start)[..., None], _between(advance, 2)], dim=2)
    height = torch.cat([torch.zeros_like(slope[:, :1]), _between(slope, 1).cumsum(1)], dim=1)
    peak = _nearest_peak(magnitude)
    height = height - height.gather(1, peak)  # relative to the peak's phase
    frames = []
    phase = start
    for t in range(magnitude.shape[-1]):
        phase = (phase + advance[..., t]).gather(1, peak[..., t]) + height[..., t]
        phase = phase.remainder(2 * math.pi)  # else the sum would lose precision
        frames.append(phase)
    return torch.stack(frames, dim=-1)


def _between(values: Tensor, dim: int) -> Tensor:
    """Average neighbours along a dimension; the result is one shorter."""
    size = values.shape[dim] - 1
    return (values.narrow(dim, 0, size) + values.narrow(dim, 1, size)) / 2


def _nearest_peak(magnitude: Tensor) -> Tensor:
    """Find for every bin (B, n_bins, T) the nearest local maximum in its frame."""
    n_bins = magnitude.shape[1]
    bins = torch.arange(n_bins, device=magnitude.device)[:, None].expand_as(magnitude)
    rising = magnitude[:, 1:] >= magnitude[:, :-1]
    falling = magnitude[:, 1:] <= magnitude[:, :-1]
    edge = torch.ones_like(rising[:, :1])
    is_peak = torch.cat([edge, rising], dim=1) & torch.cat([falling, edge], dim=1)
    below = torch.where(is_peak, bins, -2 * n_bins).cummax(1).values
    above = torch.where(is_peak, bins, 2 * n_bins).flip(1).cummin(1).values.flip(1)
    return torch.where(bins - below <= above - bins, below, above)
