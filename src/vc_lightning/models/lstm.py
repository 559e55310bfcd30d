"""Run an `nn.LSTM` fast on a CPU, in training and after: same weights, results up to rounding."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from vc_lightning.common.precision import HAS_AMX, HAS_BFLOAT16_LSTM
from vc_lightning.models import eight_bits, onednn
from vc_lightning.models.onednn import States

MIN_WIDTH = 512  # cells of a layer of which reading the weights takes most of the time
MIN_TRAINED_WIDTH = 256  # cells; below it oneDNN trains faster than `TimeFirstLSTM`
MIN_BATCH = 8  # below it oneDNN trains faster in float32 than in bfloat16
SEGMENT = 96  # frames
MIN_SEGMENTS = 6  # below it, one run is faster
MAX_PASSES = 3  # over all segments
MAX_DRIFT = 1e-4  # of states; an output is between −1 and 1


def run_lstm(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """Run a batch-first LSTM, on a CPU with faster implementations for some sizes.

    A wide layer reads more weights in each frame than the processor's fast memory holds. Outside
    of training it computes in bfloat16 where the processor has matrix units, which makes them half
    as large, in 8 bits where it multiplies bytes fast, else in segments.

    Under autocast, PyTorch's own LSTM (oneDNN) is slow in bfloat16: wide layers in the backward
    pass, all with an odd number of inputs in the forward pass, too. Its gradients are wrong from
    1 024 cells on, where there are matrix units (PyTorch 2.13). Wide layers and, in batches, those
    of `MIN_TRAINED_WIDTH` use `TimeFirstLSTM` instead; the others stay in float32 for small batches
    in training, and on processors for which oneDNN has no LSTM in bfloat16.

    Args:
        lstm: The LSTM.
        x: Inputs (B, T, dim_in).

    Returns:
        Outputs (B, T, cells of all directions).
    """
    wide = is_wide(lstm)
    if x.device.type != "cpu":
        return lstm(x)[0]
    if not torch.is_autocast_enabled("cpu"):
        if torch.is_grad_enabled() or torch.jit.is_tracing():
            return lstm(x)[0]
        if wide and not (HAS_AMX or eight_bits.computes(lstm, x)) and pays_in_segments(x):
            return run_in_segments(lstm, x)
        return run_from(lstm, x, None, fast=True)[0]
    trains_batch = torch.is_grad_enabled() and len(x) >= MIN_BATCH
    if wide or (trains_batch and is_wide(lstm, MIN_TRAINED_WIDTH)):
        dtype = torch.get_autocast_dtype("cpu")
        x = x.to(dtype).transpose(0, 1)
        for weights in lstm.all_weights:
            x = uncompiled_run_layer()(x, *(weight.to(dtype) for weight in weights))
        return x.transpose(0, 1)
    if HAS_BFLOAT16_LSTM and (len(x) >= MIN_BATCH or not torch.is_grad_enabled()):
        return lstm(x)[0]
    with torch.autocast("cpu", enabled=False):
        return lstm(x.float())[0]


def is_wide(lstm: nn.LSTM, min_width: int = MIN_WIDTH) -> bool:
    """Return whether a layer of one direction has at least so many cells."""
    return lstm.hidden_size >= min_width and not lstm.bidirectional


def run_from(lstm: nn.LSTM, x: Tensor, states: States | None, fast: bool) -> tuple[Tensor, States]:
    """Run a batch-first LSTM, not in training, from some states.

    Args:
        lstm: The LSTM.
        x: Inputs (B, T, dim_in).
        states: The states before x; None at the start.
        fast: Whether a wide layer may compute in bfloat16 or 8 bits, on a CPU made for it.

    Returns:
        Outputs (B, T, cells of all directions) in the type of x, and the states after x.
    """
    if fast and is_wide(lstm) and eight_bits.computes(lstm, x):
        return eight_bits.run_lstm(lstm, x, states)
    in_bfloat16 = fast and HAS_AMX and x.device.type == "cpu" and is_wide(lstm)
    if onednn.computes(lstm, x):
        dtype = torch.bfloat16 if in_bfloat16 else x.dtype
        outputs, states = onednn.run_lstm(lstm, x, states, dtype)
    else:
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
            outputs, states = lstm(x, states)
    return outputs.to(x.dtype), states


def run_on(
    lstm: nn.LSTM, x: Tensor, states: States | None, n_settled: int
) -> tuple[Tensor, States]:
    """Go on with a sequence whose newest frames may still change.

    Args:
        lstm: A batch-first LSTM of one direction, not in training.
        x: Inputs (B, T, dim_in).
        states: The LSTM's states before x; None at the start.
        n_settled: Frames that do not change any more, at least 1 and less than T.

    Returns:
        Outputs (B, T, cells), and the states after the settled frames. Only the other frames are
        in fewer bits where `run_lstm` is, so that states do not become less exact step by step.
    """
    settled, states = run_from(lstm, x[:, :n_settled], states, fast=False)
    rest, _ = run_from(lstm, x[:, n_settled:], states, fast=True)
    return torch.cat([settled, rest], dim=1), states


def pays_in_segments(x: Tensor) -> bool:
    """Return whether `run_in_segments` is faster for x (B, T, dim_in)."""
    return x.shape[1] >= MIN_SEGMENTS * SEGMENT and x.shape[0] < MIN_BATCH


def run_in_segments(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """Run a few long sequences as a batch of short ones, which takes half the time.

    Frame by frame a processor reads all recurrent weights for one row. So segments run side by
    side, again and again, each time from the states in which the segments before them ended. When
    these states no longer change, they are those of one run. Networks trained on short crops forget
    within a second or two, so that two passes are enough; one that remembers runs frame by frame.

    Args:
        lstm: A batch-first LSTM of one direction.
        x: Inputs (B, T, dim_in).

    Returns:
        Outputs (B, T, cells), as of `lstm` up to `MAX_DRIFT`.
    """
    batch, n_frames, _ = x.shape
    padded = F.pad(x, (0, 0, 0, -n_frames % SEGMENT))
    segments = padded.unflatten(1, (-1, SEGMENT)).flatten(0, 1)  # (B · S, SEGMENT, dim_in)
    starts = x.new_zeros(2, lstm.num_layers, len(segments), lstm.hidden_size)
    for _ in range(MAX_PASSES):
        outputs, ends = lstm(segments, tuple(starts))
        ends = torch.stack(ends).unflatten(2, (batch, -1))
        ends = F.pad(ends[..., :-1, :], (0, 0, 1, 0)).flatten(2, 3)  # of the segments before
        if (ends - starts).abs().max() <= MAX_DRIFT:
            return outputs.unflatten(0, (batch, -1)).flatten(1, 2)[:, :n_frames]
        starts = ends
    return lstm(x)[0]


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
    blocks = onednn.arranged(weights, n_rows)
    return lambda rows: onednn.product(rows, blocks, None)


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
