"""`nn.LSTM` that also trains fast in bfloat16 on a CPU: same weights, same results."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

MIN_WIDTH = 768  # hidden cells; below it oneDNN is faster than `TimeFirstLSTM`
MIN_BATCH = 8  # below it oneDNN's float32 is faster than its bfloat16


class LSTM(nn.LSTM):
    """A batch-first `nn.LSTM` with a faster implementation for autocast on a CPU.

    Under autocast, the backward pass of PyTorch's own LSTM (oneDNN) is slower in bfloat16 than in
    float32. Wide layers use `TimeFirstLSTM` instead; narrow ones stay in float32 for small
    batches.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """x (B, T, dim_in) -> (B, T, cells of all directions), and the final state or None."""
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        if self.hidden_size >= MIN_WIDTH and not self.bidirectional:
            dtype = torch.get_autocast_dtype("cpu")
            x = x.to(dtype).permute(1, 2, 0)
            for weights in self.all_weights:
                x = uncompiled_run_layer()(x, *(weight.to(dtype) for weight in weights))
            return x.permute(2, 0, 1), None
        if len(x) >= MIN_BATCH:
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float())


def run_layer(x: Tensor, w_in: Tensor, w_rec: Tensor, b_in: Tensor, b_rec: Tensor) -> Tensor:
    """Run one layer: x (T, I, B) -> (T, H, B), all of one dtype."""
    return TimeFirstLSTM.apply(x.contiguous(), w_in, w_rec, b_in + b_rec)


@functools.cache
def uncompiled_run_layer() -> Callable[..., Tensor]:
    """Exclude `run_layer` from torch.compile, which would unroll its loop over the frames.

    `torch.compiler.disable` imports the compiler, which takes a second. It is called at the first
    use, so that only training pays for it.
    """
    return torch.compiler.disable(run_layer)


class TimeFirstLSTM(torch.autograd.Function):
    """One LSTM layer with time as the first dimension and the batch as the last.

    Only the product w_rec @ h depends on the previous step. Everything else, above all the
    gradients of the weights, is one matrix product over all frames. Cells and gates are float32;
    the matrix products have the dtype of the inputs.
    """

    @staticmethod
    def forward(ctx, x: Tensor, w_in: Tensor, w_rec: Tensor, bias: Tensor) -> Tensor:
        (n_frames, _, batch), hidden = x.shape, w_rec.shape[1]
        gates = (w_in @ x).float().add_(bias[:, None])  # (T, 4H, B)
        by_gate = gates.view(n_frames, 4, hidden, batch)
        outputs = x.new_zeros(n_frames + 1, hidden, batch)  # one more: the state before the start
        cells = torch.zeros(outputs.shape)
        squashed = torch.empty(n_frames, hidden, batch)  # tanh(cells)
        recurrent = x.new_empty(4 * hidden, batch)
        steps = zip(gates, by_gate, cells[1:], squashed, outputs[1:], strict=True)
        cell, output = cells[0], outputs[0]
        for gate, (i, f, g, o), next_cell, tanh_cell, next_output in steps:
            gate += torch.mm(w_rec, output, out=recurrent)
            gate[: 2 * hidden].sigmoid_()
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
    def backward(ctx, grad_outputs: Tensor) -> tuple[Tensor, ...]:
        x, w_in, w_rec, gates, outputs, cells, squashed = ctx.saved_tensors
        n_frames, hidden, batch = grad_outputs.shape
        i, f, g, o = gates.unbind(1)  # (T, H, B)
        # Derivative of the output by the cell, then of cell or output by each gate's input.
        to_cell = torch.ops.aten.tanh_backward(o, squashed)
        to_i = torch.ops.aten.sigmoid_backward(g, i)
        to_f = torch.ops.aten.sigmoid_backward(cells[:-1], f)
        to_g = torch.ops.aten.tanh_backward(i, g)
        to_o = torch.ops.aten.sigmoid_backward(squashed, o)
        grad_outputs = grad_outputs.float().contiguous()
        grad_gates = x.new_empty(n_frames, 4, hidden, batch)
        grad_cell = torch.zeros(hidden, batch)
        recurrent = x.new_zeros(hidden, batch)
        w_rec_t = w_rec.t().contiguous()
        for t in reversed(range(n_frames)):
            grad_output = grad_outputs[t].add_(recurrent)
            grad_cell.addcmul_(grad_output, to_cell[t])
            grad_i, grad_f, grad_g, grad_o = grad_gates[t]
            torch.mul(grad_cell, to_i[t], out=grad_i)
            torch.mul(grad_cell, to_f[t], out=grad_f)
            torch.mul(grad_cell, to_g[t], out=grad_g)
            torch.mul(grad_output, to_o[t], out=grad_o)
            grad_cell *= f[t]
            torch.mm(w_rec_t, grad_gates[t].view(4 * hidden, batch), out=recurrent)
        grad_gates = grad_gates.view(n_frames, 4 * hidden, batch)
        grad_x = w_in.t() @ grad_gates
        columns = _columns(grad_gates)
        grad_w_in = columns @ _columns(x).t()
        grad_w_rec = columns @ _columns(outputs[:-1]).t()
        return grad_x, grad_w_in, grad_w_rec, columns.sum(dim=1, dtype=torch.float32).to(x.dtype)


def _columns(x: Tensor) -> Tensor:
    """(T, C, B) -> (C, T·B)."""
    return x.transpose(0, 1).flatten(1)
