"""Random crops of recordings as mel and waveform, to train a vocoder."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from vc_lightning.data.crops.order import Item
from vc_lightning.data.features.files import FeatureFiles
from vc_lightning.data.manifest import Utterance


@dataclass(frozen=True)
class VocoderBatch:
    """Crops of N frames, with the context frames that a vocoder needs on both sides.

    Attributes:
        mel: (B, n_mels, N + 2·context).
        wav: (B, (N + 2·context) · hop_length), the waveform of these frames.
        n_frames: Number of frames of all crops without context, B · N.
        f0: (B, N + 2·context) in Hz, 0 where unvoiced; all 0 if the vocoder needs no pitch.
    """

    mel: Tensor
    wav: Tensor
    n_frames: int
    f0: Tensor

    @property
    def size(self) -> int:
        """Number of crops B."""
        return len(self.mel)

    def to(self, device: torch.device, non_blocking: bool = False) -> "VocoderBatch":
        """Move the tensors to a device."""
        mel, wav, f0 = (
            tensor.to(device, non_blocking=non_blocking) for tensor in (self.mel, self.wav, self.f0)
        )
        return VocoderBatch(mel, wav, self.n_frames, f0)

    def pin_memory(self) -> "VocoderBatch":
        """Copy the tensors to page-locked memory."""
        mel, wav, f0 = (tensor.pin_memory() for tensor in (self.mel, self.wav, self.f0))
        return VocoderBatch(mel, wav, self.n_frames, f0)


@dataclass(eq=False)
class VocoderCrops(Dataset):
    """Random crops of recordings; an item is a pure function of (seed, epoch, position).

    Frames and samples beyond the ends of an utterance are zeros.

    Attributes:
        utterances: The utterances to crop.
        files: Reads mels, waveforms and pitch from the feature cache.
        n_frames: Length N of a crop, without context.
        context: Number of context frames on each side.
        seed: Seed of all crops.
    """

    utterances: Sequence[Utterance]
    files: FeatureFiles
    n_frames: int
    context: int
    seed: int

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, item: Item) -> tuple[Tensor, Tensor, Tensor]:
        """Read a crop, for `collate`.

        Args:
            item: (epoch, position, index of the utterance).

        Returns:
            Mel (n_mels, T), waveform (T · hop_length,) and pitch (T,), where T = N + 2·context.
        """
        epoch, position, index = item
        utterance = self.files.of(self.utterances[index].segment)
        rng = np.random.default_rng((self.seed, epoch, position))
        start = int(rng.integers(max(1, utterance.n_frames - self.n_frames))) - self.context
        stop = start + self.n_frames + 2 * self.context
        first, last = max(0, start), min(stop, utterance.n_frames)
        missing = (first - start, stop - last)
        hop = self.files.hop_length
        mel = F.pad(utterance.read_mel(first, last), missing)
        wav = utterance.read_wav(first, last)
        wav = F.pad(wav, tuple(frames * hop for frames in missing))
        return mel, wav, F.pad(utterance.read_f0(first, last), missing)

    def collate(self, items: Sequence[tuple[Tensor, Tensor, Tensor]]) -> VocoderBatch:
        """Stack crops to a batch."""
        mels, wavs, pitches = (torch.stack(tensors) for tensors in zip(*items, strict=True))
        return VocoderBatch(mels, wavs, len(mels) * self.n_frames, pitches)
