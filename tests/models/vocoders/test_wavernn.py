import pytest
import torch
from torch.nn import functional as F

from helpers import tiny_wavernn
from vc_lightning.common.errors import InputError
from vc_lightning.models.vocoders.wavernn import recurrence
from vc_lightning.models.vocoders.wavernn.distributions import (
    mu_law_decode,
    sample_classes,
    sample_mixture,
    uniforms,
)
from vc_lightning.models.vocoders.wavernn.network import WaveRNN
from vc_lightning.models.vocoders.wavernn.recurrence import RunningSteps


def listening(network):
    """An untrained network would hardly listen to its past."""
    network.fc3.weight.data *= 30
    network.input.weight.data[:, 0] *= 30
    return network


@pytest.mark.parametrize("mode", ["RAW", "MOL"])
@pytest.mark.parametrize("n_frames", [1, 2, 9, 23])
def test_generate_equals_plain_recurrence(mode, n_frames):
    """Every sample, drawn from teacher-forced logits of all samples before it."""
    network = listening(tiny_wavernn(mode))
    mel = torch.rand(2, 5, n_frames).double()
    padded = F.pad(mel, (2, 2))
    seed = torch.randint(2**32, (1,), generator=torch.Generator().manual_seed(5)).item()
    sources = [torch.Generator().manual_seed(seed) for _ in range(2)]
    draws = uniforms(sources, 11 if mode == "MOL" else 1, like=mel)
    inputs = torch.zeros(2, 1).double()
    wav = []
    with torch.no_grad():
        for t in range(n_frames * 6):
            past = F.pad(inputs, (0, n_frames * 6 - inputs.shape[1]))
            logits = network(past, padded)[:, t]
            if mode == "MOL":
                sample = sample_mixture(logits, next(draws))
                wav.append(sample)
            else:
                classes = sample_classes(logits, next(draws)[:, 0])
                sample = 2 * classes.double() / 63 - 1
                wav.append(mu_law_decode(classes, 64).double())
            inputs = torch.cat([inputs, sample[:, None]], dim=1)
    generated = network.generate(mel, seed=5, fold_frames=(n_frames, n_frames))
    torch.testing.assert_close(generated, torch.stack(wav, dim=1))


def teacher_forced(network, wav, mel, dtype):
    """Logits of the recurrence that generates, fed with true samples."""
    logits = []

    def choose(step, now):
        logits.append(now.clone())
        return wav[None, :, (step + 1) % wav.shape[1]]

    RunningSteps(network, len(mel), dtype).run(mel, choose)
    return torch.stack(logits, dim=1)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.02)]
)
@pytest.mark.parametrize("factors", [(2, 3), (5, 5, 3), (40,)])
def test_fast_recurrence_equals_forward(dtype, tolerance, factors):
    """Relative to their spread over time."""
    network = listening(tiny_wavernn(rnn_dims=64, fc_dims=48, upsample_factors=factors))
    n_samples = 6 * network.hop_length
    wav, mel = 2 * torch.rand(3, n_samples).double() - 1, torch.rand(3, 5, 10).double()
    wav[:, 0] = 0
    with torch.no_grad():
        expected = network(wav, mel)
    if dtype != torch.float64:
        network, wav, mel = network.float(), wav.float(), mel.float()
    error = teacher_forced(network, wav, mel, dtype) - expected
    assert error.square().mean().sqrt() < tolerance * expected.std(dim=1).mean()


def test_dtype_of_large_products(monkeypatch):
    for precision, dtype in (("bf16-mixed", torch.bfloat16), ("32-true", torch.float32)):
        monkeypatch.setattr(recurrence, "best_precision", lambda _, name=precision: name)
        assert recurrence.product_dtype(tiny_wavernn().float()) == dtype
        assert recurrence.product_dtype(tiny_wavernn()) == torch.float64


def gru_cell(gru, x, h):
    """One step by the equations of Cho et al. 2014, as PyTorch documents them."""
    i_reset, i_update, i_new = F.linear(x, gru.weight_ih_l0, gru.bias_ih_l0).chunk(3, dim=1)
    h_reset, h_update, h_new = F.linear(h, gru.weight_hh_l0, gru.bias_hh_l0).chunk(3, dim=1)
    reset, update = torch.sigmoid(i_reset + h_reset), torch.sigmoid(i_update + h_update)
    return (1 - update) * torch.tanh(i_new + reset * h_new) + update * h


def test_forward_equals_published_network():
    network = tiny_wavernn()
    wav, mel = 2 * torch.rand(2, 18).double() - 1, torch.rand(2, 5, 7).double()
    mels, features = network.upsample(mel)
    aux = features.split(2, dim=2)
    h1, h2 = torch.zeros(2, 2, 8).double()
    logits = network(wav, mel)
    for t in range(18):
        x = network.input(torch.cat([wav[:, t : t + 1], mels[:, t], aux[0][:, t]], dim=1))
        h1 = gru_cell(network.rnn1, x, h1)
        x = x + h1
        h2 = gru_cell(network.rnn2, torch.cat([x, aux[1][:, t]], dim=1), h2)
        x = x + h2
        x = torch.relu(network.fc1(torch.cat([x, aux[2][:, t]], dim=1)))
        x = torch.relu(network.fc2(torch.cat([x, aux[3][:, t]], dim=1)))
        torch.testing.assert_close(network.fc3(x), logits[:, t])


@pytest.mark.parametrize("mode", ["RAW", "MOL"])
@pytest.mark.parametrize("n_frames", [1, 2, 9, 10, 11, 23])
def test_length(mode, n_frames):
    network = tiny_wavernn(mode)
    mel = torch.rand(2, 5, n_frames).double()
    wav = network.generate(mel, seed=1, fold_frames=(2, 8))
    assert wav.shape == (2, n_frames * 6)
    assert wav.abs().max() <= 1
    assert torch.equal(wav, network.generate(mel, seed=1, fold_frames=(2, 8)))
    assert not torch.equal(wav, network.generate(mel, seed=2, fold_frames=(2, 8)))
    torch.testing.assert_close(network.generate(mel[1:], seed=1, fold_frames=(2, 8)), wav[1:])
    assert torch.cat(list(network.generate_stream(mel)), dim=1).shape == (2, n_frames * 6)


def test_upsampling():
    network = tiny_wavernn()
    constant = torch.full((1, 5, 9), 0.3).double()
    mel, features = network.upsample(constant)
    torch.testing.assert_close(mel, torch.full((1, 30, 5), 0.3).double())
    assert features.shape == (1, 30, 8)


def test_taps_equal_impulse_response():
    network = tiny_wavernn(upsample_factors=(5, 2))
    for convolution in network.upsample.smoothing:
        convolution.weight.data.normal_()
    mel = torch.rand(1, 5, 9).double()
    smoothed = network.upsample(mel)[0]  # (1, 50, 5)
    frames = mel[0].unfold(-1, 5, 1)  # (5, 5, 5): bands, frames, taps
    expected = torch.einsum("bnk,pk->npb", frames, network.upsample.taps()).flatten(0, 1)
    torch.testing.assert_close(smoothed[0], expected)


def test_public_sizes():
    network = WaveRNN("MOL", 9, 80, (5, 5, 11))
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    assert n_parameters == pytest.approx(4.2e6, rel=0.02)
    assert network.hop_length == 275
    logits = network.eval()(torch.zeros(1, 550), torch.zeros(1, 80, 6))
    assert logits.shape == (1, 550, 30)


def test_refuses_impossible_settings():
    with pytest.raises(InputError, match=r"model.mode=raw: choose one of RAW, MOL"):
        tiny_wavernn("raw")
    with pytest.raises(InputError, match=r"model.rnn_dims=0"):
        tiny_wavernn(rnn_dims=0)
    with pytest.raises(InputError, match=r"model.pad=1: upsampling by \[2, 3\] reads 2 frames"):
        tiny_wavernn(pad=1)
