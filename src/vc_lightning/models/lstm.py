"""Run an `nn.LSTM`, also fast when it trains in bfloat16 on a CPU: same weights, same results."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from vc_lightning.common.precision import HAS_AMX, HAS_BFLOAT16_LSTM

MIN_WIDTH = 512  # hidden cells; below it oneDNN is faster than `TimeFirstLSTM`
MIN_BATCH = 8  # below it oneDNN trains faster in float32 than in bfloat16
SEGMENT = 48  # frames
WARM_UP = 48  # frames before a segment, after which the state depends on them only
CHECKED = 4  # of them, compared with those of the segment before
MAX_DRIFT = 1e-4  # largest difference there; an output is between −1 and 1


def run_lstm(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """Run a batch-first LSTM, with a faster implementation for autocast on a CPU.

    Under autocast, the backward pass of PyTorch's own LSTM (oneDNN) is slower in bfloat16 than in
    float32. Wide layers use `TimeFirstLSTM` instead; narrow ones stay in float32 for small
    batches in training, and on processors for which oneDNN has no LSTM in bfloat16.

    Args:
        lstm: The LSTM.
        x: Inputs (B, T, dim_in).

    Returns:
        Outputs (B, T, cells of all directions).
    """
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return run_in_segments(lstm, x) if pays_in_segments(lstm, x) else lstm(x)[0]
    if lstm.hidden_size >= MIN_WIDTH and not lstm.bidirectional:
        dtype = torch.get_autocast_dtype("cpu")
        x = x.to(dtype).transpose(0, 1)
        for weights in lstm.all_weights:
            x = uncompiled_run_layer()(x, *(weight.to(dtype) for weight in weights))
        return x.transpose(0, 1)
    if HAS_BFLOAT16_LSTM and (len(x) >= MIN_BATCH or not torch.is_grad_enabled()):
        return lstm(x)[0]
    with torch.autocast("cpu", enabled=False):
        return lstm(x.float())[0]


def pays_in_segments(lstm: nn.LSTM, x: Tensor) -> bool:
    """Return whether `run_in_segments` is faster for x (B, T, dim_in)."""
    is_inference = not torch.is_grad_enabled() and not torch.jit.is_tracing()
    is_wide = lstm.hidden_size >= MIN_WIDTH and not lstm.bidirectional
    is_long = x.shape[1] >= 2 * (WARM_UP + SEGMENT) and x.shape[0] < MIN_BATCH
    return is_inference and is_wide and is_long and x.device.type == "cpu"


def run_in_segments(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """Run a few long sequences as a batch of short ones, which takes half the time or less.

    Frame by frame a processor reads all recurrent weights for one row. Networks trained on short
    crops forget within a second, so segments can run side by side, each after a warm-up on the
    frames before it. Where the outputs at the end of the warm-ups are not those of the segment
    before, the state has not been forgotten, and the LSTM runs once more, frame by frame.

    Args:
        lstm: A batch-first LSTM of one direction.
        x: Inputs (B, T, dim_in).

    Returns:
        Outputs (B, T, cells), as of `lstm` up to `MAX_DRIFT`.
    """
    batch, n_frames, _ = x.shape
    padded = F.pad(x, (0, 0, 0, -(n_frames - WARM_UP) % SEGMENT))
    segments = padded.unfold(1, WARM_UP + SEGMENT, SEGMENT).transpose(
        2, 3
    )  # (B, S, frames, dim_in)
    outputs = lstm(segments.flatten(0, 1))[0].unflatten(0, (batch, -1))  # (B, S, n, cells)
    ends = outputs[:, :-1, -CHECKED:]
    starts = outputs[:, 1:, WARM_UP - CHECKED : WARM_UP]
    if (ends - starts).abs().max() > MAX_DRIFT:
        return lstm(x)[0]
    first, rest = outputs[:, 0, :WARM_UP], outputs[:, :, WARM_UP:].flatten(1, 2)
    return torch.cat([first, rest], dim=1)[:, :n_frames]


def run_layer(x: Tensor, w_in: Tensor, w_rec: Tensor, b_in: Tensor, b_rec: Tensor) -> Tensor:
    """Run one layer: x (T, B, I) -> (T, B, H), all of one dtype."""
    return TimeFirstLSTM.apply(x.contiguous(), w_in, w_rec, b_in + b_rec)


@functools.cache
def uncompiled_run_layer() -> Callable[..., Tensor]:
    """Exclude `run_layer` from torch.compile, which would unroll its loop over the frames.

    `torch.compiler.disable` imports the compiler, which takes a second. It is called at the first
    use, so that only training pays for it.
    """
    return torch.compiler.disable(run_layer)


def repeated_product(weights: Tensor, n_rows: int) -> Callable[[Tensor], Tensor]:
    """Prepare rows @ weightsᵀ, to be computed many times for a few rows at a time.

    oneDNN brings weights into blocks of its own before each product, which takes as long as the
    product of a few rows; here it does that once. With AMX, weights @ columns needs no blocks and
    takes 0.7 of the time of rows @ weightsᵀ (docs/speed.md).

    Args:
        weights: (m, n).
        n_rows: Number of rows B.

    Returns:
        A function of rows (B, n) that returns products (B, m).
    """
    if HAS_AMX or not torch.backends.mkldnn.is_available():
        return lambda rows: torch.mm(weights, rows.t()).t()
    packed = torch.ops.mkldnn._reorder_linear_weight(weights.detach().contiguous(), n_rows)
    return lambda rows: torch.ops.mkldnn._linear_pointwise(rows, packed, None, "none", [], "")


class TimeFirstLSTM(torch.autograd.Function):
    """One LSTM layer with time as the first dimension and one row per sequence.

    Only the product output @ w_recᵀ depends on the previous step. Everything else, above all the
    gradients of the weights, is one matrix product over all frames. Cells and gates are float32;
    the matrix products have the dtype of the inputs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_in: Tensor, w_rec: Tensor, bias: Tensor) -> Tensor:
        (n_frames, batch, _), hidden = x.shape, w_rec.shape[1]
        gates = F.linear(x, w_in).float().add_(bias)  # (T, B, 4H)
        by_gate = gates.unflatten(2, (4, hidden))
        outputs = x.new_zeros(n_frames + 1, batch, hidden)  # one more: the state before the start
        cells = torch.zeros(outputs.shape)
        squashed = torch.empty(n_frames, batch, hidden)  # tanh(cells)
        steps = zip(gates, by_gate, cells[1:], squashed, outputs[1:], strict=True)
        cell, output = cells[0], outputs[0]
        recurrent_product = repeated_product(w_rec, batch)
        for gate, now, next_cell, tanh_cell, next_output in steps:
            gate += recurrent_product(output)
            i, f, g, o = now.unbind(1)  # (B, H)
            gate[:, : 2 * hidden].sigmoid_()
            g.tanh_()
            o.sigmoid_()
            torch.mul(f, cell, out=next_cell).addcmul_(i, g)
            torch.tanh(next_cell, out=tanh_cell)
            torch.mul(o, tanh_cell, out=next_output)
            cell, output = next_cell, next_output
        ctx.save_for_backward(x, w_in, w_rec, by_gate, outputs, cells, squashed)
        return outputs[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor, ...]:
        x, w_in, w_rec, gates, outputs, cells, squashed = ctx.saved_tensors
        n_frames, batch, hidden = grad_outputs.shape
        i, f, g, o = gates.unbind(2)  # (T, B, H)
        # Derivative of the output by the cell, then of cell or output by each gate's input.
        to_cell = torch.ops.aten.tanh_backward(o, squashed)
        to_gates = torch.stack(
            [
                torch.ops.aten.sigmoid_backward(g, i),
                torch.ops.aten.sigmoid_backward(cells[:-1], f),
                torch.ops.aten.tanh_backward(i, g),
            ],
            dim=2,
        )
        to_o = torch.ops.aten.sigmoid_backward(squashed, o)
        grad_outputs = grad_outputs.float().contiguous()
        grad_gates = x.new_empty(n_frames, batch, 4, hidden)
        grad_cell = torch.zeros(batch, hidden)
        recurrent = x.new_zeros(batch, hidden)
        recurrent_product = repeated_product(w_rec.t().contiguous(), batch)  # of (H, 4H)
        for t in reversed(range(n_frames)):
            grad_output = grad_outputs[t].add_(recurrent)
            grad_cell.addcmul_(grad_output, to_cell[t])
            torch.mul(grad_cell[:, None], to_gates[t], out=grad_gates[t, :, :3])
            torch.mul(grad_output, to_o[t], out=grad_gates[t, :, 3])
            grad_cell *= f[t]
            recurrent = recurrent_product(grad_gates[t].flatten(1))
        grad_gates = grad_gates.flatten(2)  # (T, B, 4H)
        rows = grad_gates.flatten(0, 1)  # (T·B, 4H)
        grad_x = grad_gates @ w_in
        grad_w_in = rows.t() @ x.flatten(0, 1)
        grad_w_rec = rows.t() @ outputs[:-1].flatten(0, 1)
        return grad_x, grad_w_in, grad_w_rec, rows.sum(dim=0)
