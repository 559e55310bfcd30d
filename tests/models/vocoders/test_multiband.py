import pytest
import torch
from torch.nn import functional as F

from helpers import joined, tiny_multiband
from vc_lightning.common.errors import InputError
from vc_lightning.models.vocoders.wavernn.distributions import (
    LEVEL_WIDTH,
    UNIFORM_MARGIN,
    split_mixture,
)
from vc_lightning.models.vocoders.wavernn.multiband import LIMIT

HOP, BANDS, STEPS = 32, 4, 8  # 8 steps of 4 bands a frame


@pytest.mark.parametrize(
    ("n_frames", "temperature", "of_bands"),
    [
        (1, 0.8, [0.8, 0.8, 0.8, 0.8]),
        (2, 0.8, [0.8, 0.8, 0.8, 0.8]),
        (5, [0.4, 1.0], [0.4, 0.6, 0.8, 1.0]),
        (2, [0.4, 0.6, 1.0, 0.9], [0.4, 0.6, 1.0, 0.9]),
    ],
)
def test_recurrence_equals_forward(n_frames, temperature, of_bands):
    """Every sample, drawn from teacher-forced mixtures of all samples before it."""
    network = tiny_multiband(temperature=temperature)
    mel = torch.rand(2, 5, n_frames).double()
    padded = F.pad(mel, (3, 3))
    # one draw a frame and mel: of every step and band, for the choice of a logistic and its value
    noise = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    shape = (n_frames, STEPS, BANDS, network.n_mixtures + 1)
    numbers = [
        torch.stack([torch.rand(shape[1:], generator=source) for _ in range(n_frames)])
        for source in noise
    ]
    uniform = torch.stack(numbers).double().flatten(1, 2)
    uniform = uniform * (1 - 2 * UNIFORM_MARGIN) + UNIFORM_MARGIN
    samples = torch.zeros(2, n_frames * STEPS, BANDS).double()
    with torch.no_grad():
        for t in range(n_frames * STEPS):
            past = F.pad(samples[:, :-1], (0, 0, 1, 0))
            weights, means, log_scales = split_mixture(network(past, padded)[:, t])
            chances, value = uniform[:, t, :, :-1], uniform[:, t, :, -1]
            choice = (weights - torch.log(-torch.log(chances))).argmax(dim=-1, keepdim=True)
            mean = means.gather(-1, choice)[..., 0]
            scale = log_scales.gather(-1, choice)[..., 0].exp()
            factor = torch.tensor(of_bands, dtype=torch.float64)
            samples[:, t] = mean + factor * scale * torch.log(value / (1 - value))
            samples[:, t].clamp_(-LIMIT, LIMIT)
        bands = samples * torch.exp(network.log_scale(padded))
        wav = joined(network.filterbank, bands).clamp(-1, 1)
    assert wav.std() > 1e-3
    again = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
    with torch.no_grad():
        torch.testing.assert_close(network.recur(padded, again), wav)


def test_log_prob_is_density_in_bands():
    network = tiny_multiband()
    wav, mel = 0.1 * torch.randn(2, 10 * HOP).double(), torch.rand(2, 5, 10).double()
    bands = network.filterbank.analyse(wav)[:, 3 * STEPS : 7 * STEPS]
    scale = torch.exp(network.log_scale(mel))
    weights, means, log_scales = split_mixture(
        network(F.pad(bands / scale, (0, 0, 1, 0))[:, :-1], mel)
    )
    # the derivative of the mixture's cumulative distribution, by a finite difference
    width = 1e-4

    def cumulative(value):
        of_each = torch.sigmoid((value[..., None] / scale[..., None] - means) / log_scales.exp())
        return (weights.softmax(dim=-1) * of_each).sum(dim=-1)

    density = (cumulative(bands + width / 2) - cumulative(bands - width / 2)) / width
    expected = torch.log(density * LEVEL_WIDTH)
    torch.testing.assert_close(network.log_prob(wav, mel), expected, atol=1e-4, rtol=1e-4)


def test_prediction_is_linear_in_past():
    network = tiny_multiband()
    for parameter in (network.fc2.weight, network.fc2.bias):
        parameter.data.zero_()  # nothing but the prediction is left
    mel = torch.rand(1, 5, 8).double()
    past = torch.randn(1, 2 * STEPS, BANDS).double()
    means = split_mixture(network(past, mel))[1][..., 0]
    torch.testing.assert_close(split_mixture(network(2 * past, mel))[1][..., 0], 2 * means)
    changed = past.clone()
    changed[:, 5] += 1
    moved = (split_mixture(network(changed, mel))[1][..., 0] - means).abs().amax(dim=(0, 2)) > 1e-9
    assert moved.nonzero().flatten().tolist() == [5, 6, 7]  # prediction_order of them


def test_fits_envelope():
    network = tiny_multiband(n_mels=1, hop_length=256).float()
    loudness = torch.linspace(0.6, 1, 20)[:, None]  # of the mel: 40 dB
    wav = torch.randn(20, 2560) * 10 ** (5 * (loudness - 1))
    mel = loudness[:, None].expand(-1, -1, 10)
    spread = network.initialize_output(wav, mel)
    assert spread < 1.5  # dB; noise is never equally loud
    expected = network.filterbank.analyse(torch.randn(1, 40_000)).std(dim=(0, 1))
    scale = torch.exp(network.log_scale(mel)).mean(dim=1)  # (20, bands)
    torch.testing.assert_close(scale[-1], expected, rtol=0.15, atol=0)
    torch.testing.assert_close(scale[0] * 100, expected, rtol=0.15, atol=0)


def test_training_learns_a_tone():
    network = tiny_multiband(n_mels=1, hop_length=64, temperature=0.0).float().train()
    tone = 0.3 * torch.sin(0.2 * torch.arange(64 * 400))
    starts = torch.arange(16) * 777
    wav = torch.stack([tone[start : start + 64 * 12] for start in starts])
    mel = torch.full((16, 1, 12), 0.7)
    network.initialize_output(wav, mel)
    before = network.log_prob(wav, mel).mean().item()
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(100):
        optimizer.zero_grad()
        loss = -network.log_prob(wav, mel).mean()
        loss.backward()
        optimizer.step()
    assert -loss.item() > before + 2  # e² times as likely


def test_seed_and_bounds():
    network = tiny_multiband()
    mel = torch.rand(2, 5, 7).double() + 0.5
    wav = network.generate(mel, seed=1)
    assert wav.shape == (2, 7 * HOP)
    assert wav.abs().max() <= 1
    assert torch.equal(wav, network.generate(mel, seed=1))
    assert not torch.equal(wav, network.generate(mel, seed=2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bands": 5}, "model.bands=5: does not divide mel.hop_length=32"),
        ({"rnn_dims": 0}, "model.rnn_dims=0"),
        ({"pad": 1}, "model.pad=1"),
        ({"prediction_order": 7}, "model.prediction_order=7"),
    ],
)
def test_refuses_impossible_settings(changes, message):
    with pytest.raises(InputError, match=message):
        tiny_multiband(**changes)
