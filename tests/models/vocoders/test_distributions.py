import itertools
import math

import pytest
import torch

from vc_lightning.models.vocoders.wavernn.distributions import (
    NUM_LEVELS,
    mixture_log_prob,
    mu_law_decode,
    mu_law_encode,
    sample_classes,
    sample_mixture,
    uniforms,
)


def logits(weights, means, log_scales):
    return torch.tensor([*weights, *means, *log_scales], dtype=torch.float64)


@pytest.mark.parametrize("means", [[-0.4, 0.7], [-1.0, 1.0]])
def test_probabilities_of_all_levels_sum_to_one(means):
    levels = torch.linspace(-1, 1, NUM_LEVELS, dtype=torch.float64)
    mixture = logits([0.3, -1.0], means, [-3.0, -5.0])
    log_prob = mixture_log_prob(mixture.expand(NUM_LEVELS, -1), levels)
    assert abs(log_prob.exp().sum() - 1) < 1e-6


def test_log_prob_of_wide_logistic():
    log_prob = mixture_log_prob(logits([0.0], [0.0], [0.0]), torch.tensor(0.25).double())
    density = math.exp(-0.25) / (1 + math.exp(-0.25)) ** 2
    assert math.isclose(log_prob.exp(), density * 2 / (NUM_LEVELS - 1), rel_tol=1e-6)


def test_log_prob_is_finite_far_from_narrow_logistic():
    value = torch.tensor(0.9, requires_grad=True)
    log_prob = mixture_log_prob(logits([0.0], [-0.9], [-30.0]).float(), value)
    log_prob.backward()
    assert torch.isfinite(log_prob)
    assert torch.isfinite(value.grad)


def draw(n_samples, n_numbers):
    like = torch.empty(0)
    draws = uniforms([torch.Generator().manual_seed(0)], n_numbers, like)
    return torch.cat(list(itertools.islice(draws, n_samples)))


def test_samples_follow_the_mixture():
    mixture = logits([math.log(0.25), math.log(0.75)], [-0.5, 0.5], [-6.0, -4.0]).float()
    wav = sample_mixture(mixture.expand(40_000, -1), draw(40_000, 3))
    low = wav[wav < 0]
    assert abs(len(low) / len(wav) - 0.25) < 0.01
    assert abs(low.mean() + 0.5) < 1e-3
    high = wav[wav > 0]
    assert abs(high.std() - math.exp(-4) * math.pi / math.sqrt(3)) < 2e-3


@pytest.mark.parametrize(("uniform", "side"), [(torch.zeros, -1), (torch.ones, 1)])
def test_extreme_draws_are_finite(monkeypatch, uniform, side):
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: uniform(*shape))
    mixture = logits([0.0, 0.0], [0.1, 0.1], [-3.0, -3.0])
    numbers = next(uniforms([torch.Generator()], 3, like=mixture))
    expected = 0.1 + side * math.exp(-3) * math.log((1 - 1e-5) / 1e-5)
    assert sample_mixture(mixture[None], numbers).item() == pytest.approx(expected, rel=1e-4)
    assert sample_classes(mixture[None], numbers[:, 0]).item() == (0 if side < 0 else 5)


def test_classes_follow_their_probabilities():
    probabilities = torch.tensor([0.1, 0.2, 0.7])
    classes = sample_classes(probabilities.log().expand(40_000, -1), draw(40_000, 1)[:, 0])
    frequencies = torch.bincount(classes, minlength=3) / 40_000
    torch.testing.assert_close(frequencies, probabilities, atol=0.01, rtol=0)


def test_numbers_are_independent_of_batch_and_precision():
    def rows(dtype, *seeds):
        sources = [torch.Generator().manual_seed(seed) for seed in seeds]
        draws = uniforms(sources, 3, like=torch.empty(0, dtype=dtype))
        return torch.stack(list(itertools.islice(draws, 600)), dim=1)

    both = rows(torch.float32, 4, 5)  # (2, 600, 3)
    assert torch.equal(both[1:], rows(torch.float32, 5))
    torch.testing.assert_close(both.double(), rows(torch.float64, 4, 5), atol=1e-7, rtol=0)
    assert len(both.flatten().unique()) > 0.999 * both.numel()


def test_mu_law_round_trip_and_known_values():
    wav = torch.linspace(-1, 1, 1001)
    classes = mu_law_encode(wav, 512)
    assert mu_law_encode(torch.tensor([-1.0, 0.0, 1.0]), 512).tolist() == [0, 256, 511]
    error = (mu_law_decode(classes, 512) - wav).abs()
    assert error.max() < 0.013  # half of the widest class, at full scale
    assert error[480:521].max() < 6e-4
    assert torch.equal(mu_law_encode(mu_law_decode(torch.arange(512), 512), 512), torch.arange(512))
