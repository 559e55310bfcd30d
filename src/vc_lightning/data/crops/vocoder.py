"""Random crops of recordings as mel and waveform, to train a vocoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from vc_lightning.data.crops.order import Item
from vc_lightning.data.features.files import CachedFeatures


class VocoderBatch(NamedTuple):
    """Crops of N frames, with the context frames that a vocoder needs on both sides.

    One crop is the same without the dimension B.

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


@dataclass(eq=False)
class VocoderCrops(Dataset):
    """Random crops of recordings; an item is a pure function of (seed, epoch, position).

    Frames and samples beyond the ends of an utterance are zeros.

    Attributes:
        features: The utterances to crop.
        n_frames: Length N of a crop, without context.
        context: Number of context frames on each side.
        seed: Seed of all crops.
        reconstructed: The same utterances with other mels, which a share of the crops has; or none.
        share: That share.
    """

    features: Sequence[CachedFeatures]
    n_frames: int
    context: int
    seed: int
    reconstructed: Sequence[CachedFeatures] = ()
    share: float = 0.0

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, item: Item) -> VocoderBatch:
        """Read a crop, for `collate`; `item` is (epoch, position, index of the utterance)."""
        epoch, position, index = item
        utterance = self.features[index]
        rng = np.random.default_rng((self.seed, epoch, position))
        start = int(rng.integers(max(1, utterance.n_frames - self.n_frames))) - self.context
        stop = start + self.n_frames + 2 * self.context
        first, last = max(0, start), min(stop, utterance.n_frames)
        missing = (first - start, stop - last)
        hop = utterance.files.hop_length
        has_other_mel = len(self.reconstructed) > 0 and rng.random() < self.share
        of_mel = self.reconstructed[index] if has_other_mel else utterance
        mel = F.pad(of_mel.read_mel(first, last), missing)
        wav = utterance.read_wav(first, last)
        wav = F.pad(wav, tuple(frames * hop for frames in missing))
        return VocoderBatch(mel, wav, self.n_frames, F.pad(utterance.read_f0(first, last), missing))


def collate(crops: Sequence[VocoderBatch]) -> VocoderBatch:
    """Make a batch of crops."""
    mels, wavs, n_frames, f0 = zip(*crops, strict=True)
    return VocoderBatch(torch.stack(mels), torch.stack(wavs), sum(n_frames), torch.stack(f0))
