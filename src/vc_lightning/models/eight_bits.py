"""Layers of frozen networks in 8 bits, for processors with VNNI and without matrix units.

Weights are rounded once, each row with a scale of its own; what they multiply is rounded as it
comes (dynamic quantization, by PyTorch's own kernels). Such processors, those of most laptops since
2021, multiply bytes two to four times as fast as float32, and read a quarter of the memory.
"""

import functools
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vc_lightning.common.precision import HAS_FAST_BYTES
from vc_lightning.models import onednn
from vc_lightning.models.onednn import States

LARGEST = 127
SMALLEST_SCALE = 1e-8


def computes(layer: nn.Module, x: Tensor) -> bool:
    """Return whether a layer may be computed in 8 bits: it is frozen, on such a CPU."""
    return HAS_FAST_BYTES and x.dtype == torch.float32 and onednn.is_frozen(layer, x)


def multiply(layer: nn.Linear, x: Tensor) -> Tensor:
    """Compute a linear layer of x (..., dim_in) where `computes` -> (..., dim_out).

    Each frame is brought to a largest value of 1 before: in transformers those of single frames are
    a hundred times as large as others (Dettmers et al. 2022, arXiv 2208.07339).
    """
    packed = onednn.once([layer.weight], "8 bits", lambda: _packed(layer.weight, None))
    largest = torch.maximum(x.amax(dim=-1, keepdim=True), -x.amin(dim=-1, keepdim=True))
    scale = largest.clamp(min=SMALLEST_SCALE)
    made = torch.ops.quantized.linear_dynamic(x * (1 / scale), packed).mul_(scale)
    return made if layer.bias is None else made.add_(layer.bias)


def run_lstm(lstm: nn.LSTM, x: Tensor, states: States | None) -> tuple[Tensor, States]:
    """Run a batch-first LSTM of one direction where `computes`, see `lstm.run_from`."""
    layers = [
        onednn.once(weights, "8 bits", functools.partial(_packed_layer, weights))
        for weights in lstm.all_weights
    ]
    if states is None:
        zeros = x.new_zeros(lstm.num_layers, len(x), lstm.hidden_size)
        states = zeros, zeros
    outputs, *after = torch.quantized_lstm(
        *(x, states, layers, True, lstm.num_layers, 0.0, False, False, True),
        dtype=torch.qint8,
        use_dynamic=True,
    )
    return outputs, (after[0], after[1])


def _packed_layer(weights: Sequence[Tensor]) -> torch.ScriptObject:
    """Round the weights of an LSTM's layer, and bring them into blocks."""
    of_input, recurrent, bias, recurrent_bias = weights
    pair = _packed(of_input, bias), _packed(recurrent, recurrent_bias)
    biases = bias.detach(), recurrent_bias.detach()
    return torch.ops.quantized.make_quantized_cell_params_dynamic(*pair, *biases, False)


def _packed(weight: Tensor, bias: Tensor | None) -> torch.ScriptObject:
    """Round a weight (m, n) to 8 bits, and bring it into blocks of oneDNN.

    PyTorch's other kernels (FBGEMM) know VNNI of AVX-512 only; without it their sums may overflow.
    """
    weight = weight.detach()
    scales = weight.abs().amax(dim=1).clamp(min=SMALLEST_SCALE) / LARGEST
    zeros = torch.zeros(len(weight), dtype=torch.long)
    with warnings.catch_warnings():  # that later versions of PyTorch will not have this function
        warnings.simplefilter("ignore", UserWarning)
        rounded = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = "onednn"
    try:
        return torch.ops.quantized.linear_prepack(rounded, None if bias is None else bias.detach())
    finally:
        torch.backends.quantized.engine = engine
