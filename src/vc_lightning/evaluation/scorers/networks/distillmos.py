"""An outside judge of naturalness: DistillMOS (Stahl & Gamper 2025), distilled from XLS-R.

The network, the conversion and the recipe know nothing of it. `weights` says how to get its file.
"""

from collections import OrderedDict

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from vc_lightning.audio.files import io as audio
from vc_lightning.evaluation.scorers import weights
from vc_lightning.evaluation.scorers.availability import SAMPLE_RATE

WINDOW = 320  # samples, 20 ms
HOP = 160  # samples
COMPRESSION = 0.3  # power of the magnitudes
CHANNELS = (64, 64, 128, 256, 256, 256)  # of the convolutions
N_SAMPLES = 122_880  # of a segment, 7.7 s
N_FRAMES = 384  # of a segment, after the convolutions
HOP_SAMPLES = 16_000  # most samples between two segments
DIM = 200  # of the transformer
N_LAYERS = 7
N_HEADS = 8


class DistillMOS(nn.Module):
    """The network: convolutions over a compressed spectrum, a transformer, attention pooling."""

    def __init__(self) -> None:
        super().__init__()
        convolutions: list[nn.Module] = []
        n_frequencies, n_in = WINDOW // 2 + 1, 2
        for index, n_out in enumerate(CHANNELS):
            stride = (2 if index > 0 else 1, 2 if index == len(CHANNELS) - 1 else 1)
            convolutions.append(nn.Conv2d(n_in, n_out, 3, stride, padding=(0, 1)))
            convolutions.append(nn.LeakyReLU(0.1))
            n_frequencies, n_in = (n_frequencies - 3) // stride[0] + 1, n_out
        self.cnn = nn.ModuleDict({"cnn": nn.Sequential(*convolutions)})
        self.transformer_pool_attn = Listener(n_frequencies * n_in)

    def forward(self, wav: torch.Tensor) -> torch.Tensor:
        """Rate segments.

        Args:
            wav: Segments (B, 122 880) at 16 kHz, each with a peak of 1.

        Returns:
            Scores (B,) from 1 to 5.
        """
        image = self.cnn["cnn"](compressed_spectrum(wav))  # (B, 256, frequencies, 384)
        return 1 + 4 * self.transformer_pool_attn(image.flatten(1, 2).transpose(1, 2))


def compressed_spectrum(wav: torch.Tensor) -> torch.Tensor:
    """Return the spectrum (B, 2, 161, T) with its magnitudes raised to 0.3 and its phases."""
    margin = (WINDOW - HOP) // 2
    spectrum = torch.stft(
        F.pad(wav, (margin, margin), mode="reflect"),
        WINDOW,
        HOP,
        window=torch.hann_window(WINDOW, device=wav.device),
        center=False,
        return_complex=True,
    )
    magnitude = spectrum.abs().clamp(min=1e-12)
    return torch.view_as_real(spectrum * magnitude ** (COMPRESSION - 1)).permute(0, 3, 1, 2)


class Listener(nn.Module):
    """Transformer and attention pooling: features (B, T, n_in) → scores (B,) in 0…1."""

    def __init__(self, n_in: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(DIM, N_HEADS, 2 * DIM, 0.0, batch_first=True)
        self.norm_input = nn.BatchNorm1d(n_in)
        self.transformer = nn.ModuleDict(
            OrderedDict(
                norm=nn.BatchNorm1d(n_in),
                linear_proj=nn.Linear(n_in, DIM),
                position_encoding=Positions(),
                transformer_encoder=nn.TransformerEncoder(layer, N_LAYERS),
            )
        )
        self.norm_trans = nn.BatchNorm1d(DIM)
        self.pool = nn.ModuleDict(
            {
                "linear1": nn.Linear(DIM, 2 * DIM),
                "linear2": nn.Linear(2 * DIM, 1),
                "linear3": nn.Linear(DIM, 1),
            }
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Rate features (B, T, n_in)."""
        x = self.norm_input(features.transpose(1, 2))
        x = self.transformer["norm"](x).transpose(1, 2)
        x = self.transformer["position_encoding"](self.transformer["linear_proj"](x))
        x = self.transformer["transformer_encoder"](x)  # (B, T, 200)
        x = self.norm_trans(x.transpose(1, 2)).transpose(1, 2)
        scores = self.pool["linear2"](F.relu(self.pool["linear1"](x)))  # (B, T, 1)
        pooled = (scores.softmax(dim=1) * x).sum(dim=1)  # (B, 200)
        return torch.sigmoid(self.pool["linear3"](pooled)).squeeze(-1)


class Positions(nn.Module):
    """Add the stored positions to x (B, T, 200)."""

    pe: torch.Tensor  # (1, 384, 200)

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pe", torch.zeros(1, N_FRAMES, DIM))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum."""
        return x + self.pe


class DistillMOSListener:
    """Scores naturalness with DistillMOS, 1 to 5.

    Raises:
        MissingScorerError: Its weights are not in the cache.
    """

    def __init__(self) -> None:
        self.network = DistillMOS()
        self.network.load_state_dict(weights.load(weights.DISTILLMOS))
        self.network.eval().requires_grad_(False)

    @torch.inference_mode()
    def naturalness(self, wav: np.ndarray, sample_rate: int) -> float:
        """Return the score of a recording, 1 to 5: the mean over its segments of 7.7 s.

        Args:
            wav: The recording (n,).
            sample_rate: Its sample rate in Hz.
        """
        wav = audio.resample(wav, sample_rate, SAMPLE_RATE).astype(np.float32)
        left = max(0, len(wav) - N_SAMPLES)
        wav = np.pad(wav, (0, max(0, N_SAMPLES - len(wav))))
        starts = np.linspace(0, left, -(-left // HOP_SAMPLES) + 1).astype(int)
        scores = []
        for start in starts:  # one at a time: a segment takes 200 MB
            segment = torch.from_numpy(wav[start : start + N_SAMPLES])[None]
            scores.append(self.network(segment / (segment.abs().max() + 1e-8)).item())
        return float(np.mean(scores))
