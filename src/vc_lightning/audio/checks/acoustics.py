"""Describe how a voice was recorded, apart from the voice: noise between words, treble, sharpness.

AutoVC's decoder gets these numbers of the target in training, so that it need not take noise and
dull microphones for a part of the voice. Conversions give it those of clean recordings.
"""

import torch
from torch import Tensor

N_ACOUSTICS = 9
MIN_MELS = 10
QUIET, LOUD = 0.1, 0.9  # quantiles over the frames
SPEECH_SHARE = 0.7  # of the frames, the louder ones
N_FLOORS = 4  # parts of the spectrum
N_PARTS, N_LOW = 10, 7  # parts of the spectrum; the treble is those after the first seven
FLOOR, TREBLE, CHANGE = (0.15, 0.1), (-0.15, 0.06), (0.045, 0.01)  # usual mean and std


def describe(mel: Tensor) -> Tensor:
    """Describe the acoustics of a recording by numbers of about unit size.

    Args:
        mel: Mel (n_mels, T) in 0…1, of at least `MIN_MELS` bands.

    Returns:
        (N_ACOUSTICS,): level of the quiet frames in four parts of the spectrum, level of the loud
        frames in three parts of the treble relative to the bands below, and mean change from frame
        to frame of speech in the lower and the upper half of the bands.
    """
    mel = mel.float()
    quiet = mel.quantile(QUIET, dim=1)
    loud = mel.quantile(LOUD, dim=1)
    floors = torch.stack([part.mean() for part in quiet.tensor_split(N_FLOORS)])
    parts = loud.tensor_split(N_PARTS)
    low = torch.cat(parts[:N_LOW]).mean()
    treble = torch.stack([part.mean() for part in parts[N_LOW:]]) - low
    return torch.cat(
        [
            (floors - FLOOR[0]) / FLOOR[1],
            (treble - TREBLE[0]) / TREBLE[1],
            (_changes(mel) - CHANGE[0]) / CHANGE[1],
        ]
    )


def _changes(mel: Tensor) -> Tensor:
    """Compute the mean change from frame to frame of the louder frames -> (2,)."""
    if mel.shape[1] < 2:
        return torch.zeros(2)
    level = mel.mean(dim=0)
    is_speech = (level >= level.quantile(1 - SPEECH_SHARE))[1:]
    changes = mel.diff(dim=1).abs() * is_speech
    halves = changes.sum(dim=1).tensor_split(2)
    return torch.stack([half.mean() for half in halves]) / is_speech.sum().clamp(min=1)


def clean(descriptions: Tensor) -> Tensor:
    """Average the acoustics of the cleanest recordings: bright, sharp, and quiet between words.

    Args:
        descriptions: (N, N_ACOUSTICS), see `describe`.

    Returns:
        (N_ACOUSTICS,), the mean of the cleanest quarter.
    """
    floors, rest = descriptions[:, :N_FLOORS], descriptions[:, N_FLOORS:]
    cleanness = rest.mean(dim=1) - floors.mean(dim=1)
    best = cleanness.topk(max(1, len(descriptions) // 4)).indices
    return descriptions[best].mean(dim=0)
