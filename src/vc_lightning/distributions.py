"""What WaveRNN predicts: a mixture of discretized logistics, or mu-law classes."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_LOG_SCALE = math.log(1e-14)
NUM_LEVELS = 65_536  # 16-bit audio
UNIFORM_MARGIN = 1e-5


def split_mixture(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """logits (..., 3·K) -> unnormalised log weights, means and log scales, each (..., K)."""
    weights, means, log_scales = logits.chunk(3, dim=-1)
    return weights, means, log_scales.clamp(min=MIN_LOG_SCALE)


def mixture_log_prob(logits: Tensor, wav: Tensor) -> Tensor:
    """Log probability of wav (...) in −1…1 under logits (..., 3·K) (Salimans et al. 2017).

    A level's probability is the mass of a logistic mixture over its interval of 2/65535; the
    outermost intervals are open. Where the mass underflows, density times width stands in.
    """
    weights, means, log_scales = split_mixture(logits)
    half_width = 1 / (NUM_LEVELS - 1)
    centred = wav[..., None] - means
    inverse_scale = torch.exp(-log_scales)
    above = inverse_scale * (centred + half_width)
    below = inverse_scale * (centred - half_width)
    mass = torch.sigmoid(above) - torch.sigmoid(below)
    middle = inverse_scale * centred
    log_density = middle - log_scales - 2 * F.softplus(middle)
    log_mass = torch.where(
        mass > 1e-5, mass.clamp(min=1e-12).log(), log_density + math.log(2 * half_width)
    )
    lowest = F.logsigmoid(above)
    highest = F.logsigmoid(-below)
    edge = 1 - half_width
    wav = wav[..., None]
    log_prob = torch.where(wav < -edge, lowest, torch.where(wav > edge, highest, log_mass))
    return torch.logsumexp(log_prob + F.log_softmax(weights, dim=-1), dim=-1)


def sample_mixture(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draws wav (...) in −1…1 from logits (..., 3·K): Gumbel choice, then inverse of the CDF."""
    weights, means, log_scales = split_mixture(logits)
    uniform = _uniform(weights.shape, logits, generator)
    choice = (weights - torch.log(-torch.log(uniform))).argmax(dim=-1, keepdim=True)
    mean = means.gather(-1, choice)[..., 0]
    scale = log_scales.gather(-1, choice)[..., 0].exp()
    uniform = _uniform(mean.shape, logits, generator)
    return (mean + scale * (uniform.log() - (-uniform).log1p())).clamp(-1, 1)


def sample_classes(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draws class indices (...) from logits (..., n_classes)."""
    uniform = _uniform(logits.shape, logits, generator)
    return (logits - torch.log(-torch.log(uniform))).argmax(dim=-1)


def _uniform(shape: torch.Size, like: Tensor, generator: torch.Generator | None) -> Tensor:
    uniform = torch.rand(shape, dtype=like.dtype, device=like.device, generator=generator)
    return uniform * (1 - 2 * UNIFORM_MARGIN) + UNIFORM_MARGIN


def mu_law_encode(wav: Tensor, n_classes: int) -> Tensor:
    """wav in −1…1 -> class indices 0…n_classes−1 (ITU-T G.711's continuous law)."""
    mu = n_classes - 1
    compressed = wav.sign() * torch.log1p(mu * wav.abs()) / math.log1p(mu)
    return ((compressed + 1) / 2 * mu + 0.5).long()


def mu_law_decode(classes: Tensor, n_classes: int) -> Tensor:
    """Class indices, or their fractions, -> wav in −1…1."""
    mu = n_classes - 1
    compressed = 2 * classes / mu - 1
    return compressed.sign() * torch.expm1(compressed.abs() * math.log1p(mu)) / mu
