"""Cross-fades, of sounds and of mels."""

import torch
from torch import Tensor


def faded(ending: Tensor, beginning: Tensor) -> Tensor:
    """Cross-fade two sounds or mels (…, n) linearly, from the first value to the last."""
    weight = torch.linspace(0, 1, ending.shape[-1], device=ending.device)
    return torch.lerp(ending, beginning, weight)
