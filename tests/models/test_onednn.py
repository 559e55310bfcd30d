"""Layers with weights prepared for oneDNN against the layers themselves."""

import copy

import pytest
import torch
from torch import nn

from vc_lightning.common.precision import HAS_BFLOAT16_LSTM
from vc_lightning.models import onednn

pytestmark = pytest.mark.skipif(
    not HAS_BFLOAT16_LSTM, reason="oneDNN does not compute in bfloat16 on this processor"
)


@pytest.fixture(autouse=True)
def matrix_units(monkeypatch):
    monkeypatch.setattr(onednn, "HAS_AMX", True)
    torch.manual_seed(0)


def frozen(layer):
    return layer.requires_grad_(False).eval()


@torch.inference_mode()
@pytest.mark.parametrize("n_frames", [1, 9, 37, 375])
def test_products(n_frames):
    layer = frozen(nn.Linear(24, 40).bfloat16())
    x = torch.randn(2, n_frames, 24, dtype=torch.bfloat16)
    assert onednn.computes(layer, x)
    made = onednn.multiply(layer, x)
    assert made.shape == (2, n_frames, 40)
    torch.testing.assert_close(made, layer(x), atol=0.01, rtol=0.01)


@torch.inference_mode()
@pytest.mark.parametrize("n_frames", [1, 9, 37, 375])
@pytest.mark.parametrize(("kernel", "stride", "bias"), [(1, 1, True), (5, 1, True), (3, 2, False)])
def test_convolutions(n_frames, kernel, stride, bias):
    layer = frozen(nn.Conv1d(6, 10, kernel, stride, padding=kernel // 2, bias=bias))
    x = torch.randn(3, 6, n_frames)
    expected = layer(x)
    exact = onednn.convolve(layer, x, torch.float32)
    torch.testing.assert_close(exact, expected, atol=1e-5, rtol=1e-5)
    rounded = onednn.convolve(layer, x, torch.bfloat16)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, expected, atol=0.03, rtol=0.03)
    assert not torch.equal(rounded, exact)


@torch.inference_mode()
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_lstm(batch, bidirectional):
    lstm = nn.LSTM(12, 16, num_layers=2, batch_first=True, bidirectional=bidirectional)
    frozen(lstm)
    x = torch.randn(batch, 9, 12)
    states = None
    for _ in range(2):  # from zeros, then from where that ended
        expected, after = lstm(x, states)
        outputs, ends = onednn.run_lstm(lstm, x, states, torch.float32)
        torch.testing.assert_close((outputs, ends), (expected, after), atol=1e-5, rtol=1e-5)
        rounded, _ = onednn.run_lstm(lstm, x, states, torch.bfloat16)
        torch.testing.assert_close(rounded.float(), expected, atol=0.02, rtol=0.05)
        states = after


def double(layer):
    layer.weight.mul_(2)


def replace(layer):
    layer.weight.data = 3 * layer.weight


@pytest.mark.parametrize("change", [double, replace])
def test_changed_weights_are_prepared_anew(change):
    layer, x = frozen(nn.Conv1d(6, 10, 3, padding=1)), torch.randn(1, 6, 20)
    with torch.inference_mode():
        before = onednn.convolve(layer, x, torch.float32)
    change(layer)
    with torch.inference_mode():
        made = onednn.convolve(layer, x, torch.float32)
        assert (made - before).abs().max() > 0.1
        torch.testing.assert_close(made, layer(x), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_copies_of_a_network_made_in_inference_mode():
    layer, x = frozen(nn.Conv1d(6, 10, 3, padding=1)), torch.randn(1, 6, 20)
    other = copy.deepcopy(layer)
    made = onednn.convolve(other, x, torch.float32)
    torch.testing.assert_close(made, layer(x), atol=1e-5, rtol=1e-5)


def test_networks_in_training_compute_as_ever():
    layer, x = nn.Conv1d(6, 10, 3, padding=1), torch.randn(1, 6, 20)
    assert not onednn.computes(frozen(copy.deepcopy(layer)), x)  # a gradient may be needed of x
    with torch.inference_mode():
        assert not onednn.computes(layer, x)
        made = onednn.convolve(layer, x, torch.bfloat16)
        torch.testing.assert_close(made, layer(x), atol=0, rtol=0)
        assert not onednn.computes(frozen(layer).double(), x.double())


def test_numbers_are_rounded_up_to_a_few():
    numbers = range(1, 2000)
    rounded = [onednn.rounded_up(n) for n in numbers]
    assert all(n <= up <= 9 * n / 8 for n, up in zip(numbers, rounded, strict=True))
    assert len(set(rounded[100:])) < 50
