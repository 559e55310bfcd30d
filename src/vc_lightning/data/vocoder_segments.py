"""Segments of recordings as mel and sound, which a vocoder learns from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from vc_lightning.data.feature_store import FeatureFiles
from vc_lightning.data.manifest import Utterance
from vc_lightning.data.sampling import Item


@dataclass(frozen=True)
class SoundBatch:
    """Segments of N frames with the context on both sides that a vocoder needs.

    Attributes:
        mel: (B, n_mels, N + 2·context).
        wav: (B, (N + 2·context) · hop_length), the sound of these frames.
        n_frames: B · N.
    """

    mel: Tensor
    wav: Tensor
    n_frames: int

    def to(self, device: torch.device, non_blocking: bool = False) -> "SoundBatch":
        """Moves the tensors to a device."""
        mel, wav = (t.to(device, non_blocking=non_blocking) for t in (self.mel, self.wav))
        return SoundBatch(mel, wav, self.n_frames)

    def pin_memory(self) -> "SoundBatch":
        """Copies the tensors to page-locked memory."""
        return SoundBatch(self.mel.pin_memory(), self.wav.pin_memory(), self.n_frames)


class Segments(Dataset):
    """Random segments of recordings; an item is a pure function of (seed, epoch, position).

    Beyond a recording's ends there is silence.

    Args:
        files: where mels and sound lie.
        n_frames: length of the segments; `context`: frames more on each side.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        files: FeatureFiles,
        n_frames: int,
        context: int,
        seed: int,
    ):
        self.utterances = list(utterances)
        self.files = files
        self.n_frames = n_frames
        self.context = context
        self.seed = seed

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, item: Item) -> tuple[Tensor, Tensor]:
        """(epoch, position, utterance) -> mel (n_mels, T), wav (T · hop_length,)."""
        epoch, position, index = item
        piece = self.utterances[index].piece
        rng = np.random.default_rng((self.seed, epoch, position))
        start = int(rng.integers(max(1, piece.n_frames - self.n_frames))) - self.context
        stop = start + self.n_frames + 2 * self.context
        first, last = max(0, start), min(stop, piece.n_frames)
        missing = (first - start, stop - last)
        hop = self.files.hop_length
        mel = F.pad(self.files.read_mel(piece, first, last), missing)
        wav = self.files.read_wav(piece, first, last)
        return mel, F.pad(wav, tuple(frames * hop for frames in missing))

    def collate(self, items: Sequence[tuple[Tensor, Tensor]]) -> SoundBatch:
        """Segments one above the other."""
        mels, wavs = zip(*items, strict=True)
        return SoundBatch(torch.stack(mels), torch.stack(wavs), len(mels) * self.n_frames)
