"""WaveRNN's upsampling of a mel from frames to samples."""

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class Upsample(nn.Module):
    """Upsampling to the sample rate: smoothed mel, and features that are constant in a frame."""

    def __init__(
        self,
        n_mels: int,
        factors: Sequence[int],
        dim: int,
        n_blocks: int,
        dim_out: int,
        pad: int,
    ):
        super().__init__()
        self.factors = list(factors)
        self.pad = pad
        self.hop_length = math.prod(factors)
        # A smoothing reads `factor` samples of its own rate on each side; here all are summed.
        n_samples = sum(math.prod(factors[index:]) for index in range(len(factors)))
        self.reach = math.ceil(n_samples / self.hop_length)
        self.resnet = MelResNet(n_mels, dim, n_blocks, dim_out, pad)
        smoothing = [
            nn.Conv2d(1, 1, (1, 2 * factor + 1), padding=(0, factor), bias=False)
            for factor in factors
        ]
        for convolution in smoothing:
            nn.init.constant_(convolution.weight, 1 / convolution.weight.numel())
        self.smoothing = nn.ModuleList(smoothing)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Smooth a mel and compute its features, both at the sample rate.

        Args:
            mel: Mel (B, n_mels, N + 2·pad).

        Returns:
            Smoothed mel (B, N·hop, n_mels) and features (B, N·hop, dim_out).
        """
        hop = self.hop_length
        features = self.resnet(mel).repeat_interleave(hop, dim=-1)
        mel = self._smooth(mel[:, None])[:, 0, :, self.pad * hop : -self.pad * hop]
        return mel.transpose(1, 2), features.transpose(1, 2)

    def taps(self) -> Tensor:
        """Compute the weights (hop, 2·reach + 1) of the frames around a smoothed sample."""
        impulse = self.resnet.conv_in.weight.new_zeros(1, 1, 1, 4 * self.reach + 1)
        impulse[..., 2 * self.reach] = 1
        response = self._smooth(impulse).view(-1, self.hop_length)  # (frames, hop)
        return response[self.reach : 3 * self.reach + 1].flip(0).t().contiguous()

    def _smooth(self, mel: Tensor) -> Tensor:
        """Repeat and smooth (B, 1, n, N) -> (B, 1, n, N·hop)."""
        for factor, convolution in zip(self.factors, self.smoothing, strict=True):
            mel = convolution(mel.repeat_interleave(factor, dim=-1))
        return mel


class MelResNet(nn.Module):
    """A convolution over 2·pad + 1 frames, then residual blocks over single frames."""

    def __init__(self, dim_in: int, dim: int, n_blocks: int, dim_out: int, pad: int):
        super().__init__()
        self.conv_in = nn.Conv1d(dim_in, dim, 2 * pad + 1, bias=False)
        self.batch_norm = nn.BatchNorm1d(dim)
        self.layers = nn.ModuleList(ResBlock(dim) for _ in range(n_blocks))
        self.conv_out = nn.Conv1d(dim, dim_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute features of x (B, dim_in, N + 2·pad) -> (B, dim_out, N)."""
        x = F.relu(self.batch_norm(self.conv_in(x)))
        for layer in self.layers:
            x = layer(x)
        return self.conv_out(x)


class ResBlock(nn.Module):
    """Two 1×1 convolutions with a shortcut."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv1 = nn.Conv1d(dim, dim, 1, bias=False)
        self.conv2 = nn.Conv1d(dim, dim, 1, bias=False)
        self.batch_norm1 = nn.BatchNorm1d(dim)
        self.batch_norm2 = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual to x (B, dim, N) -> (B, dim, N)."""
        y = F.relu(self.batch_norm1(self.conv1(x)))
        return x + self.batch_norm2(self.conv2(y))
