"""A network that reads the pitch off a mel-spectrogram."""

import torch
from torch import Tensor, nn

from vc_lightning.audio.pitch import FMAX_HZ, FMIN_HZ
from vc_lightning.models.vocoders.source_filter.convnext import ConvNeXt

PITCHES_AN_OCTAVE = 24
VOICED_PROBABILITY = 0.5


class PitchNet(nn.Module):
    """Classifies the frames of a mel into quarter tones and "unvoiced".

    Args:
        n_mels: Bands of the mel.
        dim: Channels.
        n_blocks: Number of blocks.
    """

    def __init__(self, n_mels: int, dim: int, n_blocks: int):
        super().__init__()
        n_pitches = int(PITCHES_AN_OCTAVE * torch.tensor(FMAX_HZ / FMIN_HZ).log2()) + 2
        self.n_pitches = n_pitches
        self.backbone = ConvNeXt(n_mels, dim, n_blocks)
        self.head = nn.Linear(dim, 1 + n_pitches)  # class 0: unvoiced

    def forward(self, mel: Tensor) -> Tensor:
        """Predict the pitch of mel (B, n_mels, T) -> f0 (B, T) in Hz, 0 where unvoiced."""
        probabilities = self.logits(mel).softmax(dim=-1)
        pitches = probabilities[..., 1:]
        best = pitches.argmax(dim=-1, keepdim=True)
        classes = torch.arange(self.n_pitches, device=mel.device)
        near = pitches * ((classes - best).abs() <= 1)  # interpolate between the classes
        height = (near * classes).sum(dim=-1) / near.sum(dim=-1)
        f0 = FMIN_HZ * 2 ** (height / PITCHES_AN_OCTAVE)
        return torch.where(probabilities[..., 0] < 1 - VOICED_PROBABILITY, f0, 0)

    def logits(self, mel: Tensor) -> Tensor:
        """Compute the logits of mel (B, n_mels, T) -> (B, T, 1 + n_pitches), unvoiced first."""
        return self.head(self.backbone(mel)).float()

    def loss(self, mel: Tensor, f0: Tensor) -> Tensor:
        """Compute the cross-entropy with the two classes nearest to the pitch, or with "unvoiced".

        Args:
            mel: Mel (B, n_mels, T).
            f0: Pitch (B, T) in Hz, 0 where unvoiced.
        """
        voiced = f0 > 0
        height = PITCHES_AN_OCTAVE * (f0.clamp(FMIN_HZ, FMAX_HZ) / FMIN_HZ).log2()
        classes = torch.arange(self.n_pitches, device=mel.device)
        target = (1 - (height[..., None] - classes).abs()).clamp(min=0) * voiced[..., None]
        target = torch.cat([(~voiced)[..., None].float(), target], dim=-1)
        return -(target * self.logits(mel).log_softmax(dim=-1)).sum(dim=-1).mean()
