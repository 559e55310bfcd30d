"""Layers of frozen networks by oneDNN, prepared once.

oneDNN, by which PyTorch computes on CPUs, brings weights into blocks of its own before each
product, convolution or run of an LSTM, which for few rows or frames takes as long as the
computation; and it compiles code for each number of rows or frames. Here weights are brought into
blocks once, and numbers of rows and frames are rounded up. Both are for processors with matrix
units; on others they gain little or were not tried.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

from vc_lightning.common.precision import HAS_AMX

SIZES_PER_OCTAVE = 8  # numbers of rows and frames for which code is compiled
LSTM_MODE = 2  # oneDNN's number of this kind of recurrent layer
ONE_LAYER = (1, True, False, False, False)  # layers, biases, both directions, batch first, training

States = tuple[Tensor, Tensor]

# Of the first one of a layer's weights: for each form, the weights' stamps and what was prepared.
_prepared = WeakTensorKeyDictionary()


def computes(layer: nn.Module, x: Tensor) -> bool:
    """Return whether these functions do more than to call a layer: it is frozen, on such a CPU."""
    return HAS_AMX and x.dtype in (torch.float32, torch.bfloat16) and is_frozen(layer, x)


def is_frozen(layer: nn.Module, x: Tensor) -> bool:
    """Return whether a layer is computed on a CPU, without gradients, and its weights stay."""
    return (
        torch.is_inference_mode_enabled()
        and x.device.type == "cpu"
        and not torch.jit.is_tracing()
        and not any(weight.requires_grad for weight in layer.parameters(recurse=False))
    )


def arranged(weight: Tensor, n_rows: int | None = None) -> Tensor:
    """Bring a weight (m, n) into blocks for `product`, perhaps of a number of rows."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), n_rows)


def product(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute rows (..., n) @ weightᵀ + bias by oneDNN; the weight may be `arranged`."""
    return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")


def multiply(layer: nn.Linear, x: Tensor) -> Tensor:
    """Compute a linear layer of x (B, T, dim_in) where `computes` -> (B, T, dim_out)."""
    blocks = once([layer.weight], "product", lambda: arranged(layer.weight))
    return product(with_room(x), blocks, layer.bias)[:, : x.shape[1]]


def with_room(x: Tensor) -> Tensor:
    """Append frames of zeros to x (B, T, dim), up to a number that `multiply` computes."""
    n_more = rounded_up(x.shape[1]) - x.shape[1]
    return F.pad(x, (0, 0, 0, n_more)) if n_more else x


def convolve(layer: nn.Conv1d, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Compute a convolution.

    Args:
        layer: The convolution, which pads with zeros so that frames stay as many.
        x: (B, dim_in, T).
        dtype: Data type of the computation where `computes`.

    Returns:
        (B, dim_out, ⌈T / stride⌉) in the type of x.
    """
    if not computes(layer, x):
        return layer(x)
    sizes = ([0, *layer.padding], [1, *layer.stride], [1, *layer.dilation], layer.groups)
    n_frames = x.shape[-1]

    def prepare() -> tuple[Tensor, Tensor | None]:
        weight, bias = layer.weight.detach().to(dtype), layer.bias
        blocks = torch.ops.mkldnn._reorder_convolution_weight(weight[:, :, None], *sizes)
        return blocks, bias if bias is None else bias.detach().to(dtype)

    blocks, bias = once([*layer.parameters()], ("convolution", dtype), prepare)
    # The frames are an image of one line.
    image = F.pad(x.to(dtype), (0, rounded_up(n_frames) - n_frames))[:, :, None]
    made = torch.ops.mkldnn._convolution_pointwise(image, blocks, bias, *sizes, "none", [], "")
    return made[:, :, 0, : -(-n_frames // layer.stride[0])].to(x.dtype)


def run_lstm(
    lstm: nn.LSTM, x: Tensor, states: States | None, dtype: torch.dtype
) -> tuple[Tensor, States]:
    """Run a batch-first LSTM where `computes`.

    Args:
        lstm: The LSTM.
        x: Inputs (B, T, dim_in).
        states: Its states before x, (layers · directions, B, cells) each; None: zeros.
        dtype: Data type of the computation.

    Returns:
        Outputs (B, T, cells of all directions) and states after x, both of that type.
    """
    directions = (False, True) if lstm.bidirectional else (False,)
    if states is None:
        zeros = x.new_zeros(len(lstm.all_weights), len(x), lstm.hidden_size)
        states = zeros, zeros
    before = zip(*(state.to(dtype)[:, None] for state in states), lstm.all_weights, strict=True)
    after = []
    x = x.to(dtype).transpose(0, 1)
    for _ in range(lstm.num_layers):
        outputs = []
        for is_reverse in directions:
            hidden, cell, weights = next(before)
            blocks = _of_lstm(weights, is_reverse, dtype)
            output, hidden, cell, _ = torch.ops.aten.mkldnn_rnn_layer(
                *(x.contiguous(), *blocks, hidden, cell, is_reverse),
                *([], LSTM_MODE, lstm.hidden_size, *ONE_LAYER),
            )
            outputs.append(output)
            after.append((hidden, cell))
        x = torch.cat(outputs, dim=2)
    hiddens, cells = (torch.cat(ends) for ends in zip(*after, strict=True))
    return x.transpose(0, 1), (hiddens, cells)


def _of_lstm(weights: Sequence[Tensor], is_reverse: bool, dtype: torch.dtype) -> Sequence[Tensor]:
    """Prepare weights and biases of a direction of an LSTM's layer."""

    def prepare() -> Sequence[Tensor]:
        of_input, recurrent, *biases = (weight.detach().to(dtype) for weight in weights)
        blocks = torch.ops.mkldnn._reorder_mkldnn_rnn_layer_weight(
            of_input, recurrent, recurrent.shape[1], is_reverse, True, False
        )
        return [*blocks, *biases]

    return once(weights, ("lstm", dtype), prepare)


def once(weights: Sequence[Tensor], form: Hashable, prepare: Callable[[], Any]) -> Any:
    """Return what was prepared of a layer's weights; it is kept until they change or are gone."""
    stamps = [_stamp(weight) for weight in weights]
    forms = _prepared.setdefault(weights[0], {})
    if form not in forms or forms[form][0] != stamps:
        forms[form] = stamps, prepare()
    return forms[form][1]


def _stamp(weight: Tensor) -> tuple[int, int]:
    """Return numbers that differ after a weight has changed."""
    try:
        return weight.data_ptr(), weight._version
    except RuntimeError:  # it was made in inference mode, which counts no versions
        return weight.data_ptr(), 0


def rounded_up(n: int) -> int:
    """Return a number, one of a few, at most an eighth above n."""
    step = max(1, (1 << n.bit_length()) // 2 // SIZES_PER_OCTAVE)
    return -(-n // step) * step
