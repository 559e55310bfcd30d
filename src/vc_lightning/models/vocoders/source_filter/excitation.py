"""The voiced source of a source-filter vocoder: pulses at a pitch."""

import torch
from torch import Tensor
from torch.nn import functional as F

DEFAULT_HZ = 150.0  # before anything is voiced; there the filter silences the pulses
NEAR_ZERO = 1e-4  # sines below it: their quotient is replaced by its limit


def without_gaps(f0: Tensor) -> Tensor:
    """Continue a pitch through unvoiced frames.

    Args:
        f0: (B, T) in Hz, 0 where unvoiced.

    Returns:
        (B, T): an unvoiced frame has the pitch of the last voiced frame before it, at the beginning
        `DEFAULT_HZ`: a stream does not know the first voiced frame either.
    """
    positions = torch.arange(f0.shape[1], device=f0.device)
    last = torch.where(f0 > 0, positions, 0).cummax(dim=1).values
    continued = f0.gather(1, last)
    return torch.where(continued > 0, continued, DEFAULT_HZ)


def pulse_train(
    f0: Tensor, hop_length: int, sample_rate: int, phase: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum all harmonics of a pitch below half the sample rate, in phase and equally loud.

    The sum has a closed form, the Dirichlet kernel. Its power spectrum is on average that of white
    noise with variance 1.

    Args:
        f0: (B, T) in Hz, without gaps; linear between frames.
        hop_length: Samples between two frames.
        sample_rate: In Hz.
        phase: (B,), float64, in periods, at the first frame.

    Returns:
        The pulses (B, (T − 1) · hop_length) and the phase (B,) at the last frame.
    """
    way = torch.arange(hop_length, device=f0.device, dtype=torch.float64) / hop_length
    before, after = f0[:, :-1, None].double(), f0[:, 1:, None].double()
    pitch = torch.lerp(before, after, way).flatten(1)  # (B, n)
    turned = (pitch / sample_rate).cumsum(dim=1) + phase[:, None]
    phases = F.pad(turned, (1, 0))[:, :-1]
    phases[:, 0] = phase
    n_harmonics = (sample_rate / 2 / pitch).floor().clamp(min=1)
    sine = torch.sin(torch.pi * phases)
    kernel = torch.sin(torch.pi * (2 * n_harmonics + 1) * phases) / sine
    kernel = torch.where(sine.abs() < NEAR_ZERO, 2 * n_harmonics + 1, kernel)
    pulses = (kernel - 1) / (2 * n_harmonics).sqrt()  # half the kernel, times √(2 / n_harmonics)
    return pulses.float(), turned[:, -1] % 1
