"""A frozen recogniser that judges training mels by the words it hears in them."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from vc_lightning.audio.mel import DB_PER_UNIT, MelSpectrogram
from vc_lightning.audio.mel_filters import mel_frequencies
from vc_lightning.models.recogniser import HOP_LENGTH, MAX_FRAMES, Recogniser, scaled

LOUDER = 0.75  # powers of ten by which the recogniser's bands are louder (median, 50 recordings)
MIN_VARIANCE = 0.01  # of a feature; it is about 1, but for a silent batch


class WordCritic(nn.Module):
    """Hears what is spoken in the converter's mels, through a recogniser (perceptual loss).

    After Johnson et al. 2016, arXiv 1603.08155. The recogniser reads another mel, so values are
    interpolated between the centres of the bands, and between frames. That changes its features by
    0.16 of their variance (a VTLP factor of 0.87: 0.05), in mels and in recordings alike.

    Args:
        recogniser: The recogniser, frozen.
        mel: The converter's mel-spectrogram.
    """

    between_bands: Tensor  # (bands of the recogniser, n_mels)

    def __init__(self, recogniser: Recogniser, mel: MelSpectrogram):
        super().__init__()
        self.recogniser = recogniser.eval().requires_grad_(False)
        self.ref_db = mel.ref_db
        self.steps = mel.sample_rate / mel.hop_length * HOP_LENGTH / recogniser.sample_rate
        n_bands = recogniser.arguments["n_mels"]
        wanted = mel_frequencies(n_bands + 2, 0, recogniser.sample_rate / 2)[1:-1]
        given = mel.band_centres.cpu().double().numpy()
        columns = np.stack([np.interp(wanted, given, unit) for unit in np.eye(mel.n_mels)], axis=1)
        self.register_buffer("between_bands", torch.from_numpy(columns).float())

    def forward(self, mel: Tensor) -> Tensor:
        """Hear mels (B, n_mels, T), 30 s of them at most -> features (B, D, 50 a second)."""
        with torch.autocast(mel.device.type, enabled=False):
            bands = between_frames(self.between_bands @ mel.float(), self.steps)
            bands = bands[..., : 2 * MAX_FRAMES]
            power = (DB_PER_UNIT * (bands - 1) + self.ref_db) / 10 + LOUDER  # powers of ten
            heard = scaled(power)
        features = self.recogniser(heard)
        return features.float().transpose(1, 2)


def between_frames(x: Tensor, step: float) -> Tensor:
    """Interpolate x (..., T) at the positions 0, step, 2·step, … below T."""
    positions = torch.arange(math.ceil(x.shape[-1] / step), device=x.device) * step
    before = positions.long()
    after = (before + 1).clamp(max=x.shape[-1] - 1)
    return torch.lerp(x[..., before], x[..., after], positions - before)


def feature_distance(heard: Tensor, wanted: Tensor) -> Tensor:
    """Compare what a recogniser hears in generated and in recorded speech.

    Args:
        heard: Its features of what was generated (B, D, T).
        wanted: Those of the recordings (B, D, T), without gradient.

    Returns:
        The squared difference relative to each feature's variance over the batch; 1 is the error
        of its mean.
    """
    variance = wanted.var(dim=(0, 2), correction=0, keepdim=True).clamp(min=MIN_VARIANCE)
    return ((heard - wanted).square() / variance).mean()
