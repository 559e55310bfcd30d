"""WaveRNN's output distributions: mixtures of logistics and mu-law classes."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_LOG_SCALE = math.log(1e-14)
NUM_LEVELS = 65_536  # 16-bit audio
LEVEL_WIDTH = 2 / (NUM_LEVELS - 1)
MIN_LOG_SCALE_OF_DENSITY = -7.0  # bounds the density where the samples are constant
UNIFORM_MARGIN = 1e-5
STEPS_DRAWN = 256  # steps whose random numbers are drawn at once


def split_mixture(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split logits (..., 3·K) into unnormalised log weights, means, log scales, each (..., K)."""
    weights, means, log_scales = logits.chunk(3, dim=-1)
    return weights, means, log_scales.clamp(min=MIN_LOG_SCALE)


def mixture_log_prob(logits: Tensor, wav: Tensor) -> Tensor:
    """Compute the log probability under discretized mixtures of logistics (Salimans et al. 2017).

    The probability of a 16-bit level is the mass of the mixture in an interval of width 2/65535;
    the outermost intervals are unbounded. Where the mass underflows, it is approximated by the
    density times the width.

    Args:
        logits: Parameters of the mixtures (..., 3·K), see `split_mixture`.
        wav: Samples (...) in −1…1.

    Returns:
        Log probabilities (...).
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
    """Compute the log density under continuous mixtures of logistics.

    Args:
        logits: Parameters of the mixtures (..., 3·K), see `split_mixture`.
        values: Values (...) of any range.

    Returns:
        Log densities (...).
    """
    weights, means, log_scales = split_mixture(logits)
    log_scales = log_scales.clamp(min=MIN_LOG_SCALE_OF_DENSITY)
    distance = (values[..., None] - means) * torch.exp(-log_scales)
    log_density = distance - log_scales - 2 * F.softplus(distance)
    return torch.logsumexp(log_density + F.log_softmax(weights, dim=-1), dim=-1)


def mixture_noise(uniform: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor]:
    """Transform uniform numbers into the noise that `pick` needs.

    Args:
        uniform: Numbers between 0 and 1 (..., K + 1, S).
        temperature: Factor of the logistic noise, broadcastable to (..., S).

    Returns:
        Gumbel noise (..., K, S) and logistic noise (..., S).
    """
    gumbel = -torch.log(-uniform[..., :-1, :].log())
    return gumbel, torch.logit(uniform[..., -1, :]) * temperature


def pick(
    weights: Tensor, means: Tensor, log_scales: Tensor, gumbel: Tensor, logistic: Tensor
) -> Tensor:
    """Draw values from mixtures of logistics with given noise.

    Args:
        weights: Unnormalised log weights (..., K, S).
        means: Means (..., K, S).
        log_scales: Log scales (..., K, S).
        gumbel: Gumbel noise (..., K, S), see `mixture_noise`.
        logistic: Logistic noise (..., S), see `mixture_noise`.

    Returns:
        Values (..., S).
    """
    choice = (weights + gumbel).argmax(dim=-2, keepdim=True)
    mean = means.gather(-2, choice)[..., 0, :]
    scale = log_scales.gather(-2, choice)[..., 0, :].exp()
    return mean.addcmul_(scale, logistic)


def sample_mixture(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draw samples from mixtures of logistics.

    K uniform numbers choose a logistic (Gumbel-max); the last one goes through its inverse CDF.
    The result is that of `pick`, but the K logistics are contiguous in memory, which is faster
    here.

    Args:
        logits: Parameters of the mixtures (..., 3·K), see `split_mixture`.
        uniform: Numbers between 0 and 1 (..., K + 1).

    Returns:
        Samples (...) in −1…1.
    """
    weights, means, log_scales = split_mixture(logits)
    gumbel, uniform = -torch.log(-uniform[..., :-1].log()), uniform[..., -1]
    choice = (weights + gumbel).argmax(dim=-1, keepdim=True)
    mean = means.gather(-1, choice)[..., 0]
    scale = log_scales.gather(-1, choice)[..., 0].exp()
    return (mean + scale * torch.logit(uniform)).clamp(-1, 1)


def sample_classes(logits: Tensor, uniform: Tensor) -> Tensor:
    """Draw class indices (...) from logits (..., n_classes) with uniform numbers (...)."""
    cumulated = logits.softmax(dim=-1).cumsum(dim=-1)
    return torch.searchsorted(cumulated, (uniform * cumulated[..., -1])[..., None])[..., 0]


def uniforms(
    generators: Sequence[torch.Generator], n_numbers: int, like: Tensor
) -> Iterator[Tensor]:
    """Draw uniform numbers for one step after another.

    The numbers of a generator depend neither on the other generators nor on precision or device.

    Args:
        generators: S generators.
        n_numbers: Numbers per generator and step.
        like: Tensor whose dtype and device the numbers take.

    Yields:
        Numbers between 0 and 1 (S, n_numbers), one row per generator.
    """
    while True:
        yield from uniform_block(generators, (STEPS_DRAWN, n_numbers), like).movedim(-1, 1)


def uniform_block(
    generators: Sequence[torch.Generator], shape: tuple[int, ...], like: Tensor
) -> Tensor:
    """Draw uniform numbers at once.

    Args:
        generators: S generators.
        shape: Shape of the numbers of each generator.
        like: Tensor whose dtype and device the numbers take.

    Returns:
        Numbers between 0 and 1 (*shape, S).
    """
    numbers = torch.stack([torch.rand(shape, generator=source) for source in generators], dim=-1)
    return numbers.to(like) * (1 - 2 * UNIFORM_MARGIN) + UNIFORM_MARGIN


def mu_law_encode(wav: Tensor, n_classes: int) -> Tensor:
    """Encode samples in −1…1 as class indices 0…n_classes−1 (continuous mu-law, ITU-T G.711)."""
    mu = n_classes - 1
    compressed = wav.sign() * torch.log1p(mu * wav.abs()) / math.log1p(mu)
    return ((compressed + 1) / 2 * mu + 0.5).long()


def mu_law_decode(classes: Tensor, n_classes: int) -> Tensor:
    """Decode class indices, or values between them, to samples in −1…1."""
    mu = n_classes - 1
    compressed = 2 * classes / mu - 1
    return compressed.sign() * torch.expm1(compressed.abs() * math.log1p(mu)) / mu
