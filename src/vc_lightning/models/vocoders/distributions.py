"""What WaveRNN predicts: a mixture of discretized logistics, or mu-law classes."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_LOG_SCALE = math.log(1e-14)
NUM_LEVELS = 65_536  # 16-bit audio
LEVEL_WIDTH = 2 / (NUM_LEVELS - 1)
MIN_LOG_SCALE_OF_DENSITY = -7.0  # else it would grow without end where a sound stands still
UNIFORM_MARGIN = 1e-5
STEPS_DRAWN = 256  # steps whose random numbers are drawn at once


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
    half_width = LEVEL_WIDTH / 2
    centred = wav[..., None] - means
    inverse_scale = torch.exp(-log_scales)
    above = inverse_scale * (centred + half_width)
    below = inverse_scale * (centred - half_width)
    mass = torch.sigmoid(above) - torch.sigmoid(below)
    middle = inverse_scale * centred
    log_density = middle - log_scales - 2 * F.softplus(middle)
    log_mass = torch.where(
        mass > 1e-5, mass.clamp(min=1e-12).log(), log_density + math.log(LEVEL_WIDTH)
    )
    lowest = F.logsigmoid(above)
    highest = F.logsigmoid(-below)
    edge = 1 - half_width
    wav = wav[..., None]
    log_prob = torch.where(wav < -edge, lowest, torch.where(wav > edge, highest, log_mass))
    return torch.logsumexp(log_prob + F.log_softmax(weights, dim=-1), dim=-1)


def mixture_log_density(logits: Tensor, values: Tensor) -> Tensor:
    """Log density of values (...) under logits (..., 3·K), for values without levels or limits."""
    weights, means, log_scales = split_mixture(logits)
    log_scales = log_scales.clamp(min=MIN_LOG_SCALE_OF_DENSITY)
    distance = (values[..., None] - means) * torch.exp(-log_scales)
    log_density = distance - log_scales - 2 * F.softplus(distance)
    return torch.logsumexp(log_density + F.log_softmax(weights, dim=-1), dim=-1)


def mixture_noise(uniform: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """All that is random in drawing values (..., S), by uniform numbers (..., K + 1, S).

    Returns: Gumbel noise (..., K, S) and logistic noise (..., S), wide by temperature, for `pick`.
    """
    gumbel = -torch.log(-uniform[..., :-1, :].log())
    return gumbel, torch.logit(uniform[..., -1, :]) * temperature


def pick(
    weights: Tensor, means: Tensor, log_scales: Tensor, gumbel: Tensor, logistic: Tensor
) -> Tensor:
    """Values (..., S) of mixtures whose parameters are (..., K, S), given `mixture_noise`."""
    choice = (weights + gumbel).argmax(dim=-2, keepdim=True)
    mean = means.gather(-2, choice)[..., 0, :]
    scale = log_scales.gather(-2, choice)[..., 0, :].exp()
    return mean.addcmul_(scale, logistic)


def sample_mixture(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draws wav (...) in −1…1 from logits (..., 3·K) by uniform numbers (..., K + 1).

    K of them choose the logistic (Gumbel), the last one goes through its inverse CDF. The same as
    `pick` with the logistics last, where they lie in memory here: that is faster.
    """
    weights, means, log_scales = split_mixture(logits)
    gumbel, uniform = -torch.log(-uniform[..., :-1].log()), uniform[..., -1]
    choice = (weights + gumbel).argmax(dim=-1, keepdim=True)
    mean = means.gather(-1, choice)[..., 0]
    scale = log_scales.gather(-1, choice)[..., 0].exp()
    return (mean + scale * torch.logit(uniform)).clamp(-1, 1)


def sample_classes(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draws class indices (...) from logits (..., n_classes) by uniform numbers (...)."""
    cumulated = logits.softmax(dim=-1).cumsum(dim=-1)
    return torch.searchsorted(cumulated, (uniform * cumulated[..., -1])[..., None])[..., 0]


def uniforms(
    generators: Sequence[torch.Generator], n_numbers: int, like: Tensor
) -> Iterator[Tensor]:
    """Numbers between 0 and 1 (S, n_numbers) for step after step, a row from each generator.

    What a generator gives does not depend on the others, nor on the precision or the device.
    """
    while True:
        yield from uniform_block(generators, (STEPS_DRAWN, n_numbers), like).movedim(-1, 1)


def uniform_block(
    generators: Sequence[torch.Generator], shape: tuple[int, ...], like: Tensor
) -> Tensor:
    """Numbers between 0 and 1 (*shape, S), those of a given shape from each generator."""
    numbers = torch.stack([torch.rand(shape, generator=source) for source in generators], dim=-1)
    return numbers.to(like) * (1 - 2 * UNIFORM_MARGIN) + UNIFORM_MARGIN


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
