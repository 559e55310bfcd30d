"""Changes to the encoder's input; the reconstruction target stays as it is.

Each is a callable (mel (n_mels, T), rng) -> mel; `data.augmentations` lists those to apply, in
order. All randomness comes from rng, so that a crop is the same whenever it is read again.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vc_lightning.audio.mel import DB_PER_UNIT
from vc_lightning.common.errors import require_at_least, require_within

Augmentation = Callable[[Tensor, np.random.Generator], Tensor]


class Gain:
    """Changes the level of a crop.

    Args:
        decibels: Largest change, up or down.
    """

    def __init__(self, decibels: float):
        require_within(0, DB_PER_UNIT, "data.augmentations", decibels=decibels)
        self.decibels = decibels

    def __call__(self, mel: Tensor, rng: np.random.Generator) -> Tensor:
        shift = rng.uniform(-self.decibels, self.decibels) / DB_PER_UNIT
        return _shifted(mel, torch.tensor(shift))


class Equalize:
    """Filters a crop by a smooth random frequency response, like another microphone or room.

    Args:
        decibels: Largest gain of the response, up or down.
        n_points: Number of random values that the response interpolates.
    """

    def __init__(self, decibels: float, n_points: int):
        require_within(0, DB_PER_UNIT, "data.augmentations", decibels=decibels)
        require_at_least(2, "data.augmentations", n_points=n_points)
        self.decibels = decibels
        self.n_points = n_points

    def __call__(self, mel: Tensor, rng: np.random.Generator) -> Tensor:
        points = rng.uniform(-self.decibels, self.decibels, self.n_points) / DB_PER_UNIT
        bands = np.linspace(0, self.n_points - 1, mel.shape[0])
        curve = np.interp(bands, np.arange(self.n_points), points)
        return _shifted(mel, torch.from_numpy(curve)[:, None])


class Mask:
    """Sets a random span of frames and one of mel bands to 0 (SpecAugment, arXiv 1904.08779).

    Args:
        max_frames: Largest number of frames.
        max_bands: Largest number of mel bands.
    """

    def __init__(self, max_frames: int, max_bands: int):
        require_at_least(0, "data.augmentations", max_frames=max_frames, max_bands=max_bands)
        self.max_frames = max_frames
        self.max_bands = max_bands

    def __call__(self, mel: Tensor, rng: np.random.Generator) -> Tensor:
        mel = mel.clone()
        n_mels, n_frames = mel.shape
        frames = int(rng.integers(self.max_frames + 1))
        bands = int(rng.integers(self.max_bands + 1))
        start = rng.integers(max(1, n_frames - frames + 1))
        mel[:, start : start + frames] = 0
        low = rng.integers(max(1, n_mels - bands + 1))
        mel[low : low + bands] = 0
        return mel


def _shifted(mel: Tensor, shift: Tensor) -> Tensor:
    """Add to the log-mel, but keep digital silence (0), which has no level to change."""
    return torch.where(mel > 0, mel + shift.to(mel.dtype), mel).clamp(0, 1)
