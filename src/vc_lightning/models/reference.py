"""Attention to the target's own frames, from which conversions take the detail of the voice."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vc_lightning.models import onednn

N_HEADS = 4
DIM_KEY = 32  # of a head
DIM_VALUE = 64  # of a head
N_RESIDUALS = 3  # convolutions of the refinement between its first and its last
SLOPE = 0.1  # of the leaky ReLU
QUERIES = 512  # frames that attend at once, so that long mels need little memory
FIRST_SCALE = 10.0  # of the cosine between query and key


class ReferenceAttention(nn.Module):
    """Refines a converted mel by frames of the target that say the same.

    A network that minimises a distance predicts the mean of all mels that fit a code and a voice.
    The target's recordings show which of them it is: a frame's code and mel make its key, its mel
    is its value, and the converted frame is the query (attention after Vaswani et al. 2017, arXiv
    1706.03762, with cosines in place of products). Attention does not know the order of the frames,
    so a voice can keep them shuffled.

    Args:
        n_mels: Mel bands.
        dim_codes: Channels of the codes.
        dim: Width of the convolutions.

    Attributes:
        dim_remembered: Channels D of what `remember` returns.
    """

    def __init__(self, n_mels: int, dim_codes: int, dim: int):
        super().__init__()
        self.n_mels = n_mels
        self.dim_remembered = N_HEADS * DIM_KEY + n_mels
        self.address = nn.ModuleList(
            [
                nn.Conv1d(dim_codes + n_mels, dim, 5, padding=2),
                nn.Conv1d(dim, N_HEADS * DIM_KEY, 3, padding=1),
            ]
        )
        self.value = nn.Conv1d(n_mels, N_HEADS * DIM_VALUE, 1)
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        dim_in = n_mels + N_HEADS * DIM_VALUE + 1
        self.input = nn.Conv1d(dim_in, dim, 3, padding=1)
        self.residuals = nn.ModuleList(
            nn.Conv1d(dim, dim, 3, padding=1) for _ in range(N_RESIDUALS)
        )
        self.output = nn.Conv1d(dim, n_mels, 3, padding=1)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.get_parameter("bias"))

    @property
    def reach(self) -> int:
        """Frames on each side that are read for a frame of the converted mel."""
        convolutions = [*self.address, self.input, *self.residuals, self.output]
        return sum(one.kernel_size[0] // 2 for one in convolutions)

    def remember(self, codes: Tensor, mel: Tensor) -> Tensor:
        """Turn frames of the target into what the attention needs of them.

        Args:
            codes: (B, dim_codes, R), codes of the target's speech, one per frame.
            mel: (B, n_mels, R), its mel.

        Returns:
            (B, D, R), key and mel of each frame; their order does not matter any more.
        """
        return torch.cat([self._keys(codes, mel), mel], dim=1)

    def forward(
        self, codes: Tensor, mel: Tensor, reference: Tensor, valid: Tensor | None = None
    ) -> Tensor:
        """Refine a converted mel.

        Args:
            codes: (B, dim_codes, T), codes of the source, one per frame.
            mel: (B, n_mels, T), the mel to refine.
            reference: (B, D, R), a result of `remember`.
            valid: (B, R), which frames of the reference are not padding; None for all.

        Returns:
            (B, n_mels, T).
        """
        keys, mels = reference.split([self.dim_remembered - self.n_mels, self.n_mels], dim=1)
        values = _convolved(self.value, mels)
        queries, keys, values = (
            x.unflatten(1, (N_HEADS, -1)) for x in (self._keys(codes, mel), keys, values)
        )
        pieces = [self._found(part, keys, values, valid) for part in queries.split(QUERIES, dim=-1)]
        x = _convolved(self.input, torch.cat([mel, torch.cat(pieces, dim=-1)], dim=1))
        x = F.leaky_relu(x, SLOPE)
        for convolution in self.residuals:
            x = x + F.leaky_relu(_convolved(convolution, x), SLOPE)
        return mel + _convolved(self.output, x)

    def _found(self, queries: Tensor, keys: Tensor, values: Tensor, valid: Tensor | None) -> Tensor:
        """Attend with queries (B, N_HEADS, DIM_KEY, T) -> values, and how few frames they are of.

        The last channel of the result (B, N_HEADS · DIM_VALUE + 1, T) is 1 where all weight is on
        one frame, and 1 / R where it is on all alike.
        """
        scores = (queries * self.log_scale.exp()).transpose(2, 3) @ keys  # (B, N_HEADS, T, R)
        if valid is not None:
            scores = scores.masked_fill(~valid[:, None, None], float("-inf"))
        weights = scores.softmax(dim=-1)
        found = (weights @ values.transpose(2, 3)).transpose(2, 3).flatten(1, 2)
        sharpness = torch.linalg.vector_norm(weights, dim=-1).square().mean(dim=1, keepdim=True)
        return torch.cat([found, sharpness], dim=1)

    def _keys(self, codes: Tensor, mel: Tensor) -> Tensor:
        """Address frames (B, dim_codes, T), (B, n_mels, T) -> (B, N_HEADS · DIM_KEY, T)."""
        first, second = self.address
        read = F.relu(_convolved(first, torch.cat([codes, mel], dim=1)))
        keys = _convolved(second, read).unflatten(1, (N_HEADS, -1))
        return F.normalize(keys, dim=2).flatten(1, 2)


def _convolved(layer: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(layer, nn.Conv1d)
    return onednn.convolve(layer, x, torch.bfloat16)
