import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from vc_lightning.models.vocoders.wavernn import batched_generation

RATE = 16_000


class Copy:
    """A vocoder whose frames are samples: what it says does not depend on how it is folded."""

    pad, hop_length = 2, 8

    def __init__(self):
        self.calls = []

    def recur(self, mel, noise):
        """A sample is the mel's there, and less of it two frames before and after."""
        assert len(noise) == len(mel)
        self.calls.append(mel.shape)
        now = mel[..., 2:-2] + 0.5 * mel[..., :-4] + 0.25 * mel[..., 4:]
        return now.transpose(1, 2).flatten(1) / 4

    def whole(self, mel):
        return self.recur(F.pad(mel, (2, 2)), [None] * len(mel))


class Sine:
    """Goes on with a sine of any phase, after a warm-up in which it says nothing useful."""

    pad, hop_length = 0, 256

    def __init__(self, frequency):
        self.step = 2 * math.pi * frequency / RATE

    def recur(self, mel, noise):
        n_frames = mel.shape[-1]
        phases = [2 * math.pi * torch.rand(1, generator=source).double() for source in noise]
        time = torch.arange(n_frames * self.hop_length)
        wavs = 0.5 * torch.sin(torch.stack(phases) + self.step * time)
        wavs[:, :300] *= torch.linspace(0, 1, 300)
        return wavs


@pytest.mark.parametrize(
    ("fold_frames", "n_frames"),
    [
        (fold_frames, n_frames)
        for n_frames in [*range(1, 40), 100, 777, 778, 779, 3300]
        for fold_frames in [batched_generation.FOLD_FRAMES, (1, 1), (3, 7), (5000, 5000)]
        if n_frames <= 100 or fold_frames != (1, 1)  # it would take minutes
    ],
)
def test_joins_agreeing_folds_exactly(fold_frames, n_frames):
    """Every length, batch row and fold; to the last sample, which is not faded away."""
    vocoder, mel = Copy(), torch.randn(2, 8, n_frames).double().clamp(-2, 2)
    expected = vocoder.whole(mel)
    wav = batched_generation.generate(vocoder, mel, 0, fold_frames)
    torch.testing.assert_close(wav, expected.clamp(-1, 1))
    pieces = list(batched_generation.stream(vocoder, mel, 0, fold_frames))
    torch.testing.assert_close(torch.cat(pieces, dim=1), expected.clamp(-1, 1))


@pytest.mark.parametrize("frequency", [55, 80, 113.7, 220, 437.3, 1000])
def test_sine_continues_through_seams(frequency):
    """No jump is larger than in the pure sine, and the amplitude stays, whatever the phases are."""
    vocoder, mel = Sine(frequency), torch.zeros(1, 1, 200)
    curvature = 0.5 * (2 - 2 * math.cos(vocoder.step))  # largest second difference of the sine
    for seed in range(20):
        wav = batched_generation.generate(vocoder, mel, seed)[0, 300:]
        assert wav.diff(n=2).abs().max() < 1.1 * curvature + 1e-4
        for period in wav.split(RATE // 50)[:-1]:  # more than one period of the lowest
            assert 0.46 < period.abs().max() < 0.52


def test_sines_cancel_without_alignment(monkeypatch):
    monkeypatch.setattr(batched_generation, "MAX_LAG", 0)
    wav = batched_generation.generate(Sine(113.7), torch.zeros(1, 1, 200), 0)[0, 300:]
    assert wav.unfold(0, 160, 1).abs().amax(1).min() < 0.4


def test_best_match():
    wav = torch.randn(2, 300)
    ending = torch.stack([2 * wav[0, 40:140], wav[1, 100:200]])
    index, correlation = batched_generation.best_match(ending, wav.unfold(1, 100, 1))
    assert index.tolist() == [40, 100]
    torch.testing.assert_close(correlation, torch.ones(2))
    index, correlation = batched_generation.best_match(
        torch.zeros(1, 100), torch.zeros(1, 201, 100)
    )
    assert (index.item(), correlation.item()) == (100, 0)  # silence stays where it is


@pytest.mark.parametrize(("far", "expected"), [(0.7, 10), (0.9, 0)])
def test_lag_is_penalised(far, expected):
    """The middle one of 21 pieces has a correlation of 0.6, the farthest a higher one."""
    ending, other = F.one_hot(torch.tensor([[0], [1]]), 100).float()
    candidates = other.repeat(1, 21, 1)
    candidates[:, 10] = 0.6 * ending + 0.8 * other
    candidates[:, 0] = far * ending + math.sqrt(1 - far**2) * other
    index, correlation = batched_generation.best_match(ending, candidates)
    assert index.item() == expected
    assert correlation.item() == pytest.approx(0.6 if expected else far)


def test_fade_keeps_power():
    torch.manual_seed(0)
    first, second = torch.randn(2, 4000, 64).mul(0.1)
    for correlation in (0.0, 0.5, 1.0):
        other = correlation * first + math.sqrt(1 - correlation**2) * second
        mixed = batched_generation.fade_at_constant_power(
            first, other, torch.full((4000,), correlation)
        )
        torch.testing.assert_close(mixed[:, 0], first[:, 0])
        torch.testing.assert_close(mixed[:, -1], other[:, -1])
        power = mixed.square().mean(0)
        assert power.sub(0.01).abs().max() < 0.001


def test_stream_starts_early_with_bounded_memory():
    vocoder, mel = Copy(), torch.rand(1, 8, 20_000)
    pieces = batched_generation.stream(vocoder, mel, 0)
    next(pieces)
    assert vocoder.calls == [(8, 8, 8 + 4 + 4)]
    list(itertools.islice(pieces, 6))
    assert len(vocoder.calls) == 1
    list(pieces)
    folds, _, frames = zip(*vocoder.calls, strict=True)
    assert folds == (8, 16, 32, 64, 128, 128, 69)
    assert [n - 4 - 4 for n in frames] == [8, 16, 32, 48, 48, 48, 48]


@pytest.mark.parametrize(
    ("n_frames", "folds", "frames"), [(320, 27, 12), (1600, 64, 25), (6000, 125, 48)]
)
def test_moderate_mel_is_one_batch(n_frames, folds, frames):
    vocoder = Copy()
    batched_generation.generate(vocoder, torch.rand(3, 8, n_frames), 0)
    assert vocoder.calls == [(3 * folds, 8, frames + 4 + 4)]


class Noise:
    """Says its noise."""

    pad, hop_length = 0, 8

    def recur(self, mel, noise):
        return torch.stack([torch.rand(mel.shape[-1] * 8, generator=source) for source in noise])


def test_noise_depends_on_seed_and_fold():
    mel = torch.zeros(2, 1, 100)
    wav = batched_generation.generate(Noise(), mel, 3)
    assert torch.equal(wav, batched_generation.generate(Noise(), mel, 3))
    assert torch.equal(wav[0], wav[1])
    assert torch.equal(wav[:1], batched_generation.generate(Noise(), mel[:1], 3))
    assert not torch.equal(wav, batched_generation.generate(Noise(), mel, 4))
    assert len(wav[0].unique()) > 780  # no segment repeats another's
