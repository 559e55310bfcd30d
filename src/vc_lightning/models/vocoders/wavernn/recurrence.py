"""WaveRNN's recurrence for many sequences at once, optimised for PyTorch on a CPU.

Everything that does not depend on the previous sample is computed ahead, for a few steps at a time.
All layers up to the first ReLU are linear in their inputs, so their matrices are multiplied once,
and mel and features enter the gates directly. A step then consists of four products of weights and
columns, one column per sequence, and the gates between them.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vc_lightning.common.precision import best_precision

if TYPE_CHECKING:
    from vc_lightning.models.vocoders.wavernn.network import WaveRNN

STEPS_AHEAD = 16  # steps whose conditioning is computed at once: more exceed the caches


class Weights(NamedTuple):
    """All matrices of a step; their rows are 3·H for each GRU, then `fc_dims` for fc1."""

    from_input: Tensor  # (6·H + fc_dims, n_in), of the samples before
    from_mel: Tensor  # (6·H + fc_dims, n_mels)
    from_features: Tensor  # (6·H + 2·fc_dims, res_out_dims); the last rows are fc2's
    bias: Tensor  # (6·H + 2·fc_dims, 1)
    from_state1: Tensor  # (6·H + fc_dims, H), of the first GRU's state
    from_state2: Tensor  # (3·H + fc_dims, H), of the second's; not read by the first GRU
    new_bias1: Tensor  # (H, 1), inside the reset gate's product
    new_bias2: Tensor
    fc2: Tensor  # (fc_dims, fc_dims)
    fc3: Tensor  # (n_out, fc_dims)
    fc3_bias: Tensor  # (n_out, 1)


def product_dtype(network: "WaveRNN") -> torch.dtype:
    """Choose the dtype of large products: bfloat16 for float32 weights if that is fast."""
    weight = network.fc3.weight
    fast = best_precision(weight.device.type) == "bf16-mixed" and weight.dtype == torch.float32
    return torch.bfloat16 if fast else weight.dtype


def fuse_weights(network: "WaveRNN", dtype: torch.dtype) -> Weights:
    """Compute the matrices of a step; those multiplied with states are in `dtype`."""
    w_in1, w_rec1, b_in1, b_rec1 = network.rnn1.all_weights[0]
    w_in2, w_rec2, b_in2, b_rec2 = network.rnn2.all_weights[0]
    hidden, fc_dims = network.rnn1.hidden_size, network.fc1.out_features
    dim_aux = network.fc2.in_features - fc_dims
    n_mels = network.upsample.resnet.conv_in.in_channels
    n_in = network.input.in_features - n_mels - dim_aux
    i_sample, i_mel, i_aux = network.input.weight.split([n_in, n_mels, dim_aux], dim=1)
    into2, aux2 = w_in2.split([hidden, dim_aux], dim=1)
    into3, aux3 = network.fc1.weight.split([hidden, dim_aux], dim=1)
    into4, aux4 = network.fc2.weight.split([fc_dims, dim_aux], dim=1)
    from_x = torch.cat([w_in1, into2, into3])  # of the output of `input`
    features = torch.block_diag(aux2, aux3, aux4)
    features = torch.cat([features.new_zeros(3 * hidden, 3 * dim_aux), features])
    of_aux1 = torch.cat([from_x @ i_aux, i_aux.new_zeros(fc_dims, dim_aux)])
    # Biases of the recurrent products go with the others, except that of the new state's.
    b_gates1, b_gates2 = (F.pad(b_rec[: 2 * hidden], (0, hidden)) for b_rec in (b_rec1, b_rec2))
    bias = torch.cat([b_in1 + b_gates1, b_in2 + b_gates2, network.fc1.bias])
    return Weights(
        from_input=from_x @ i_sample,
        from_mel=from_x @ i_mel,
        from_features=torch.cat([of_aux1, features], dim=1),
        bias=torch.cat([bias + from_x @ network.input.bias, network.fc2.bias])[:, None],
        from_state1=torch.cat([w_rec1, into2, into3]).to(dtype),
        from_state2=torch.cat([w_rec2, into3]).to(dtype),
        new_bias1=b_rec1[2 * hidden :, None],
        new_bias2=b_rec2[2 * hidden :, None],
        fc2=into4.to(dtype),
        fc3=network.fc3.weight,
        fc3_bias=network.fc3.bias[:, None],
    )


def conditioning(
    network: "WaveRNN", weights: Weights, mel: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Compute the contribution of the mel to the gates, fc1 and fc2, STEPS_AHEAD steps at a time.

    Upsampling is linear, so frames are projected in place of samples. A sample is then a weighted
    sum of a few frames around it and of the features, which are constant for a frame.

    Args:
        network: The network.
        weights: The matrices of a step.
        mel: Mel (S, n_mels, N + 2·pad).

    Yields:
        Contribution to gates and fc1 (steps, 6·H + fc_dims, S), overwritten by the next one, and
        to fc2 (fc_dims, S).
    """
    n_rows = len(weights.from_mel)
    taps = network.upsample.taps()  # (steps of a frame, n_taps)
    n_taps = taps.shape[1]
    first = network.upsample.pad - n_taps // 2
    taps = torch.cat([taps, taps.new_ones(len(taps), 1)], dim=1)
    features = network.upsample.resnet(mel).permute(2, 1, 0)  # (N, res_out_dims, S)
    mel = mel.permute(2, 1, 0)
    ahead = mel.new_empty(STEPS_AHEAD, n_rows, mel.shape[2])
    for frame, feature in enumerate(features, start=first):
        of_mel = weights.from_mel @ mel[frame : frame + n_taps]
        of_features = torch.addmm(weights.bias, weights.from_features, feature)
        columns = torch.cat([of_mel, of_features[None, :n_rows]]).flatten(1)
        for part in taps.split(STEPS_AHEAD):
            steps = ahead[: len(part)]
            torch.mm(part, columns, out=steps.flatten(1))
            yield steps, of_features[n_rows:]


class RunningSteps:
    """State of S sequences, which begin in silence and continue where the last call stopped.

    Args:
        network: The network.
        n_sequences: Number of sequences.
        dtype: Dtype of the large products; None for the fastest.
    """

    @torch.inference_mode()
    def __init__(self, network: "WaveRNN", n_sequences: int, dtype: torch.dtype | None = None):
        self.network = network
        self.dtype = dtype or product_dtype(network)
        self.weights = fuse_weights(network, self.dtype)
        hidden, fc_dims = network.rnn1.hidden_size, network.fc1.out_features
        zeros = network.fc3.weight.new_zeros
        self.state1, self.state2 = zeros(2, hidden, n_sequences)
        # Contributions of the first state to both GRUs and fc1, of the second to its GRU and fc1.
        self.seen1 = zeros(6 * hidden + fc_dims, n_sequences)
        self.seen2 = zeros(3 * hidden + fc_dims, n_sequences)
        self.inputs = zeros(self.weights.from_input.shape[1], n_sequences)

    @torch.inference_mode()
    def run(self, mel: Tensor, choose: Callable[[int, Tensor], Tensor]) -> None:
        """Run all steps of a mel.

        Args:
            mel: Mel (S, n_mels, N + 2·pad).
            choose: Called with the number of a step, from 0 on, and its logits (S, n_out), which
                the next step overwrites; returns the samples (n_in, S) that the next step reads.
        """
        weights, seen1, seen2 = self.weights, self.seen1, self.seen2
        hidden, fc_dims = len(self.state1), len(weights.fc2)
        spare = torch.empty_like(self.state1)
        # Buffers in `dtype`: sums of two dtypes would allocate memory in each step.
        state = torch.empty_like(self.state1, dtype=self.dtype)
        layer = seen1.new_empty(fc_dims, len(mel), dtype=self.dtype)
        product = torch.empty_like(seen1, dtype=self.dtype)
        product1, product2, product3 = (product[:n] for n in (len(seen1), len(seen2), fc_dims))
        logits = seen1.new_empty(len(weights.fc3), len(mel))
        inputs = self.inputs
        step = 0
        for ahead, for_fc2 in conditioning(self.network, weights, mel):
            for now in ahead:
                now.addmm_(weights.from_input, inputs)
                gates1, gates2, x = now.split([3 * hidden, 3 * hidden, fc_dims])
                advance_gru(gates1, seen1, weights.new_bias1, self.state1, spare)
                seen1.copy_(torch.mm(weights.from_state1, state.copy_(self.state1), out=product1))
                now[3 * hidden :] += seen1[3 * hidden :]
                advance_gru(gates2, seen2, weights.new_bias2, self.state2, spare)
                seen2.copy_(torch.mm(weights.from_state2, state.copy_(self.state2), out=product2))
                x += seen2[3 * hidden :]
                torch.mm(weights.fc2, layer.copy_(x.relu_()), out=product3)
                x.copy_(product3).add_(for_fc2).relu_()
                torch.mm(weights.fc3, x, out=logits)
                inputs = choose(step, logits.add_(weights.fc3_bias).t().contiguous())
                step += 1
        self.inputs = inputs.clone()  # may be a view of a large tensor


def advance_gru(
    gates: Tensor, recurrent: Tensor, new_bias: Tensor, state: Tensor, spare: Tensor
) -> None:
    """Replace a GRU's state by the next one (Cho et al. 2014, gates as in PyTorch).

    Args:
        gates: Contributions of the inputs to the gates (3·H, S); overwritten.
        recurrent: The state times its weights (≥ 3·H, S).
        new_bias: Bias of the new state's recurrent product (H, 1).
        state: The state (H, S); replaced.
        spare: A buffer (H, S).
    """
    hidden = len(state)
    both, new = gates[: 2 * hidden], gates[2 * hidden :]
    both += recurrent[: 2 * hidden]
    reset, update = both.sigmoid_().chunk(2)
    torch.add(recurrent[2 * hidden : 3 * hidden], new_bias, out=spare)
    new.addcmul_(reset, spare).tanh_()
    torch.lerp(new, state, update, out=state)
