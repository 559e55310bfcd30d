"""Layers of AutoVC: convolutions with BatchNorm, and the speaker's embedding in them."""

from typing import Literal

import torch
from torch import Tensor, nn

from vc_lightning.models import onednn

KERNEL_SIZE = 5
GAIN = 16  # the elements of an embedding, a unit vector of 256 numbers, are about 1/16


class ConvNorm(nn.Module):
    """Convolution that keeps the length, then BatchNorm.

    Args:
        dim_in: Channels of the input.
        dim_out: Channels of the output.
        follows: The nonlinearity that follows; it sets the gain of the Xavier initialisation.
    """

    def __init__(self, dim_in: int, dim_out: int, follows: Literal["relu", "tanh", "linear"]):
        super().__init__()
        self.conv = nn.Conv1d(dim_in, dim_out, KERNEL_SIZE, padding=KERNEL_SIZE // 2)
        self.norm = nn.BatchNorm1d(dim_out)
        nn.init.xavier_uniform_(self.conv.weight, gain=nn.init.calculate_gain(follows))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalize x (B, dim_in, T) -> (B, dim_out, T)."""
        return self.norm(onednn.convolve(self.conv, x, torch.bfloat16))


class FiLM(nn.Module):
    """Scale and shift of channels by a speaker embedding; starts as the identity.

    Args:
        dim_emb: Size of the embedding.
        dim: Channels.
    """

    def __init__(self, dim_emb: int, dim: int):
        super().__init__()
        self.linear = nn.Linear(dim_emb, 2 * dim)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Scale and shift x (B, dim, T) by embedding (B, dim_emb) -> (B, dim, T)."""
        scale, shift = self.linear(GAIN * embedding)[..., None].chunk(2, dim=1)
        return x + scale * x + shift


class Unconditioned(nn.Module):
    """The identity, in place of `FiLM` in a network without it."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Return x unchanged."""
        return x


def films(dim_emb: int | None, dim: int, n: int) -> nn.ModuleList:
    """Make n `FiLM` layers, or n `Unconditioned` ones where dim_emb is None."""
    return nn.ModuleList(
        Unconditioned() if dim_emb is None else FiLM(dim_emb, dim) for _ in range(n)
    )


def with_speaker(x: Tensor, embedding: Tensor) -> Tensor:
    """Append embedding (B, dim_emb) to every frame of x (B, C, T) -> (B, C + dim_emb, T)."""
    return torch.cat([x, embedding[:, :, None].expand(-1, -1, x.shape[-1])], dim=1)
