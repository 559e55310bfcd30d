"""One-dimensional ConvNeXt, the backbone of Vocos (Siuzdak 2023, arXiv 2306.00814)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

KERNEL_SIZE = 7
BLOCK_WEIGHTS = 9  # tensors in a block


class ConvNeXt(nn.Module):
    """A convolution, then ConvNeXt blocks over time (Liu et al. 2022, arXiv 2201.03545).

    Args:
        n_in: Input channels.
        dim: Output channels.
        n_blocks: Number of blocks.
    """

    def __init__(self, n_in: int, dim: int, n_blocks: int):
        super().__init__()
        self.input = nn.Conv1d(n_in, dim, KERNEL_SIZE, padding="same")
        self.input_norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(ConvNeXtBlock(dim, n_blocks) for _ in range(n_blocks))
        self.output_norm = nn.LayerNorm(dim)

    @property
    def context(self) -> int:
        """Frames on each side that a frame depends on."""
        return (1 + len(self.blocks)) * (KERNEL_SIZE // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Compute features of x (B, n_in, T) -> (B, T, dim)."""
        x = self.input_norm(self.input(x).transpose(1, 2))
        for block in self.blocks:
            x = block(x)
        return self.output_norm(x)


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution over time, then a network over the channels of each frame.

    Args:
        dim: Channels.
        n_blocks: Number of blocks in the backbone; scales the initial residual.
    """

    def __init__(self, dim: int, n_blocks: int):
        super().__init__()
        self.depthwise = nn.Conv1d(dim, dim, KERNEL_SIZE, padding="same", groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.wide = nn.Linear(dim, 3 * dim)
        self.narrow = nn.Linear(3 * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), 1 / n_blocks))

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual to x (B, T, dim) -> (B, T, dim)."""
        hidden = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return x + self.scale * self.narrow(F.gelu(self.wide(self.norm(hidden))))
