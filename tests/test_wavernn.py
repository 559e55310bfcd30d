import math

import pytest
import torch
from torch.nn import functional as F

from vc_lightning.distributions import mu_law_decode, sample_classes, sample_mixture
from vc_lightning.errors import InputError
from vc_lightning.wavernn import WaveRNN, cross_fade, fold


def tiny(mode="MOL", **changes):
    torch.manual_seed(0)
    arguments = {
        "bits": 6,
        "n_mels": 5,
        "upsample_factors": (2, 3),
        "rnn_dims": 8,
        "fc_dims": 8,
        "compute_dims": 8,
        "res_out_dims": 8,
        "res_blocks": 2,
        "fold_frames": None,
    }
    network = WaveRNN(mode, **arguments | changes).double().eval()
    for module in network.modules():  # untrained BatchNorm would be the identity
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return network


@pytest.mark.parametrize("mode", ["RAW", "MOL"])
def test_generate_is_the_plain_recurrence_of_forward(mode):
    """Every sample, drawn from teacher-forced logits of all samples before it."""
    network = tiny(mode)
    network.fc3.weight.data *= 30  # an untrained network would hardly listen to its past
    network.input.weight.data[:, 0] *= 30
    mel = torch.rand(2, 5, 3).double()
    padded = F.pad(mel, (2, 2))
    generator = torch.Generator().manual_seed(5)
    inputs = torch.zeros(2, 1).double()
    wav = []
    with torch.no_grad():
        for t in range(3 * 6):
            past = F.pad(inputs, (0, 18 - inputs.shape[1]))
            logits = network(past, padded)[:, t : t + 1]
            if mode == "MOL":
                sample = sample_mixture(logits, generator)
                wav.append(sample)
            else:
                classes = sample_classes(logits, generator)
                sample = 2 * classes.double() / 63 - 1
                wav.append(mu_law_decode(classes, 64).double())
            inputs = torch.cat([inputs, sample], dim=1)
    torch.testing.assert_close(network.generate(mel, seed=5), torch.cat(wav, dim=1))


def gru_cell(gru, x, h):
    """One step by the equations of Cho et al. 2014, as PyTorch documents them."""
    i_reset, i_update, i_new = F.linear(x, gru.weight_ih_l0, gru.bias_ih_l0).chunk(3, dim=1)
    h_reset, h_update, h_new = F.linear(h, gru.weight_hh_l0, gru.bias_hh_l0).chunk(3, dim=1)
    reset, update = torch.sigmoid(i_reset + h_reset), torch.sigmoid(i_update + h_update)
    return (1 - update) * torch.tanh(i_new + reset * h_new) + update * h


def test_forward_is_the_published_network():
    network = tiny()
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
def test_any_length_is_frames_times_hop(mode, n_frames):
    network = tiny(mode, fold_frames=8, overlap_frames=2)
    mel = torch.rand(2, 5, n_frames).double()
    wav = network.generate(mel, seed=1)
    assert wav.shape == (2, n_frames * 6)
    assert wav.abs().max() <= 1
    assert torch.equal(wav, network.generate(mel, seed=1))
    assert not torch.equal(wav, network.generate(mel, seed=2))


def test_folds_hear_what_the_whole_hears():
    network = tiny()
    mel = torch.rand(1, 5, 20).double()
    padded = F.pad(mel, (2, 2))
    whole, features = network.upsample(padded)
    segments = fold(padded, 8, 2, pad=2)
    assert segments.shape == (1, 3, 5, 8 + 2 + 4)
    for index in range(2):
        part, part_features = network.upsample(segments[:, index])
        where = slice(index * 48, index * 48 + 60)
        torch.testing.assert_close(part, whole[:, where])
        torch.testing.assert_close(part_features, features[:, where])


def test_upsampling_smooths_repeated_frames():
    network = tiny()
    constant = torch.full((1, 5, 9), 0.3).double()
    mel, features = network.upsample(constant)
    torch.testing.assert_close(mel, torch.full((1, 30, 5), 0.3).double())
    assert features.shape == (1, 30, 8)


def test_cross_fade_keeps_the_power_and_switches_after_the_warm_up():
    segments = torch.stack([torch.ones(20), 2 * torch.ones(20)])[None]
    joined = cross_fade(segments, overlap=8)[0]
    assert joined.shape == (32,)
    assert torch.equal(joined[:16], torch.ones(16))  # the overlap begins at 12
    torch.testing.assert_close(joined[20:], 2 * torch.ones(12))
    angle = torch.linspace(0, math.pi / 2, 4)
    torch.testing.assert_close(joined[16:20], angle.cos() + 2 * angle.sin())


def test_public_sizes():
    network = WaveRNN("MOL", 9, 80, (5, 5, 11))
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    assert n_parameters == pytest.approx(4.2e6, rel=0.02)
    assert network.hop_length == 275
    logits = network.eval()(torch.zeros(1, 550), torch.zeros(1, 80, 6))
    assert logits.shape == (1, 550, 30)


def test_impossible_settings_are_refused():
    with pytest.raises(InputError, match=r"wavernn.mode is raw"):
        tiny("raw")
    with pytest.raises(InputError, match=r"wavernn.rnn_dims=0"):
        tiny(rnn_dims=0)
