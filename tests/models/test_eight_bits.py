"""Layers in 8 bits against the layers themselves."""

import copy

import pytest
import torch
from torch import nn

from vc_lightning.common.precision import HAS_VNNI
from vc_lightning.models import eight_bits, lstm

pytestmark = pytest.mark.skipif(not HAS_VNNI, reason="this processor multiplies no bytes fast")


@pytest.fixture(autouse=True)
def fast_bytes(monkeypatch):
    monkeypatch.setattr(eight_bits, "HAS_FAST_BYTES", True)
    monkeypatch.setattr(lstm, "HAS_AMX", False)
    torch.manual_seed(0)


def frozen(layer):
    return layer.requires_grad_(False).eval()


def share_of_error(found, expected):
    return float((found - expected).norm() / expected.norm())


@torch.inference_mode()
@pytest.mark.parametrize("has_bias", [True, False])
def test_products(has_bias):
    layer, x = frozen(nn.Linear(64, 40, bias=has_bias)), torch.randn(2, 9, 64)
    x[0, 3] *= 100  # which costs the other frames nothing
    x[1, 5] = 0
    assert eight_bits.computes(layer, x)
    found, expected = eight_bits.multiply(layer, x), layer(x)
    assert found.shape == expected.shape
    for frames in ((0, slice(3)), (0, 3), (1, slice(5))):
        assert 1e-4 < share_of_error(found[frames], expected[frames]) < 0.02
    torch.testing.assert_close(found[1, 5], expected[1, 5])


@torch.inference_mode()
def test_rows_of_a_weight_have_scales_of_their_own():
    layer, x = frozen(nn.Linear(64, 2)), torch.randn(1, 50, 64)
    layer.weight[0] *= 100
    found, expected = eight_bits.multiply(layer, x), layer(x)
    assert share_of_error(found[..., 1], expected[..., 1]) < 0.02


@torch.inference_mode()
@pytest.mark.parametrize("n_layers", [1, 2])
def test_lstm(n_layers):
    network = frozen(nn.LSTM(24, 32, num_layers=n_layers, batch_first=True))
    states = None
    for _ in range(2):  # from zeros, then from where that ended
        x = torch.randn(3, 20, 24)
        expected, after = network(x, states)
        found, ends = eight_bits.run_lstm(network, x, states)
        assert 1e-4 < share_of_error(found, expected) < 0.05
        for end, state in zip(ends, after, strict=True):
            assert end.shape == state.shape
            assert share_of_error(end, state) < 0.05
        states = after


@torch.inference_mode()
def test_only_wide_lstms_of_frozen_networks():
    wide, narrow = (nn.LSTM(8, n, batch_first=True) for n in (512, 64))
    x = torch.randn(1, 600, 8)
    for network in (frozen(narrow), wide):
        torch.testing.assert_close(lstm.run_lstm(network, x), network(x)[0], atol=1e-4, rtol=0)
    found = lstm.run_lstm(frozen(wide), x)
    assert 1e-3 < share_of_error(found, wide(x)[0]) < 0.05
    states = lstm.run_from(wide, x, None, fast=False)[1]
    assert share_of_error(states[0], wide(x)[1][0]) < 1e-5


def test_networks_in_training_compute_as_ever():
    layer, x = nn.Linear(8, 8), torch.randn(1, 4, 8)
    assert not eight_bits.computes(frozen(copy.deepcopy(layer)), x)  # a gradient may be needed
    with torch.inference_mode():
        assert not eight_bits.computes(layer, x)
        assert not eight_bits.computes(frozen(layer).bfloat16(), x.bfloat16())
