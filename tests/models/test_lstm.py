"""`run_lstm` against `nn.LSTM`, from which only its arithmetic differs."""

import pytest
import torch
from torch import nn

from vc_lightning.models import lstm
from vc_lightning.models.lstm import run_layer, run_lstm


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.LSTM(12, 16, num_layers=2, batch_first=True)


def gradients(outputs, inputs):
    torch.manual_seed(1)
    return torch.autograd.grad(outputs, inputs, torch.randn(outputs.shape))


@pytest.mark.parametrize("has_amx", [True, False])
def test_equals_pytorch(network, monkeypatch, has_amx):
    monkeypatch.setattr(lstm, "HAS_AMX", has_amx)
    x = torch.randn(3, 9, 12, requires_grad=True)
    inputs = [x, *network.parameters()]
    by_hand = x.transpose(0, 1)
    for weights in network.all_weights:
        by_hand = run_layer(by_hand, *weights)
    by_hand = by_hand.transpose(0, 1)
    expected = network(x)[0]
    torch.testing.assert_close(by_hand, expected)
    for ours, theirs in zip(gradients(by_hand, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("min_width", [1, 1000])
@pytest.mark.parametrize("batch", [2, 16])
def test_autocast_within_bfloat16_precision(network, monkeypatch, min_width, batch):
    monkeypatch.setattr(lstm, "MIN_WIDTH", min_width)
    x = torch.randn(batch, 9, 12)
    inputs = list(network.parameters())
    expected = run_lstm(network, x)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = run_lstm(network, x)
    torch.testing.assert_close(outputs.float(), expected, atol=0.02, rtol=0.05)
    for ours, theirs in zip(
        gradients(outputs.float(), inputs), gradients(expected, inputs), strict=True
    ):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, atol=0.03 * theirs.abs().max().item(), rtol=0.05)


@pytest.mark.parametrize(
    ("batch", "in_training", "is_ours"), [(8, True, True), (7, True, False), (8, False, False)]
)
def test_medium_layers_have_time_first_only_to_train_batches(
    monkeypatch, batch, in_training, is_ours
):
    calls = []
    monkeypatch.setattr(
        lstm, "uncompiled_run_layer", lambda: lambda *given: calls.append(1) or run_layer(*given)
    )
    network = nn.LSTM(11, 256, batch_first=True)  # an odd number of inputs is slow by oneDNN
    x = torch.randn(batch, 5, 11)
    with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(in_training):
        outputs = run_lstm(network, x)
    assert bool(calls) == is_ours
    torch.testing.assert_close(outputs.float(), network(x)[0], atol=0.02, rtol=0.05)


def test_narrow_layers_stay_in_float32_without_a_bfloat16_lstm(network, monkeypatch):
    monkeypatch.setattr(lstm, "HAS_BFLOAT16_LSTM", False)
    x = torch.randn(16, 9, 12)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = run_lstm(network, x)
    torch.testing.assert_close(outputs, run_lstm(network, x), atol=0, rtol=0)


@pytest.fixture
def without_amx(monkeypatch):
    monkeypatch.setattr(lstm, "HAS_AMX", False)


@torch.inference_mode()
@pytest.mark.parametrize("n_frames", [576, 700])
def test_segments_equal_one_run(n_frames, without_amx):
    torch.manual_seed(0)
    network = nn.LSTM(8, 512, num_layers=2, batch_first=True)
    x = torch.randn(2, n_frames, 8)
    calls = []
    network.register_forward_hook(lambda _, inputs, __: calls.append(inputs[0].shape))
    outputs = run_lstm(network, x)
    n_segments = 2 * -(-n_frames // 96)
    assert calls == [(n_segments, 96, 8)] * 2  # passes
    torch.testing.assert_close(outputs, network(x)[0], atol=1e-4, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize(("forgetting", "n_passes"), [(1.3, 3), (10, 4)])
def test_a_network_that_remembers_gets_more_passes_then_one_run(forgetting, n_passes, without_amx):
    torch.manual_seed(0)
    network = nn.LSTM(8, 512, batch_first=True)
    network.bias_hh_l0[512:1024] = forgetting  # at 10, gates that forget nothing
    x = torch.randn(1, 600, 8)
    calls = []
    network.register_forward_hook(lambda _, inputs, __: calls.append(inputs[0].shape[1]))
    outputs = run_lstm(network, x)
    assert calls == [96, 96, 96, 600][:n_passes]
    atol = 0 if n_passes == 4 else 1e-4
    torch.testing.assert_close(outputs, network(x)[0], atol=atol, rtol=0)


def test_training_and_short_inputs_run_once(without_amx):
    network = nn.LSTM(8, 512, batch_first=True)
    calls = []
    network.register_forward_hook(lambda _, inputs, __: calls.append(inputs[0].shape[1]))
    run_lstm(network, torch.randn(1, 600, 8))
    with torch.inference_mode():
        run_lstm(network, torch.randn(1, 570, 8))
        run_lstm(network, torch.randn(8, 600, 8))  # a batch reads the weights for all at once
    assert calls == [600, 570, 600]


@pytest.mark.skipif(not lstm.HAS_BFLOAT16_LSTM, reason="oneDNN has no such LSTM for this processor")
def test_matrix_units_run_wide_layers_in_bfloat16(monkeypatch):
    monkeypatch.setattr(lstm, "HAS_AMX", True)
    torch.manual_seed(0)
    network, x = nn.LSTM(8, 512, batch_first=True), torch.randn(1, 600, 8)
    trained = run_lstm(network, x)
    with torch.inference_mode():
        outputs = run_lstm(network, x)
    assert outputs.dtype == torch.float32
    assert 0 < (outputs - trained).std() < 0.01 * trained.std()
    torch.testing.assert_close(trained, network(x)[0], atol=0, rtol=0)
