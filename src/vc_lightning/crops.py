"""Crops of cached mels with their speaker embeddings, one by one and as batches."""

import signal
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from vc_lightning.feature_files import FeatureFiles
from vc_lightning.sampling import Item
from vc_lightning.utterances import Utterance

Augmentation = Callable[[Tensor, np.random.Generator], Tensor]


@dataclass(frozen=True)
class Batch:
    """Utterances of one batch, padded by zeros.

    Attributes:
        mel: (B, n_mels, T), what is to be reconstructed.
        lengths: (B,), frames that are not padding.
        embedding: (B, E), whose voice it is.
        heard_mel, heard_embedding: the same, or of a copy in another voice, for the encoder.
        f0: (B, T), the pitch of `mel` in Hz, 0 where it has none or is not kept.
    """

    mel: Tensor
    lengths: Tensor
    embedding: Tensor
    heard_mel: Tensor
    heard_embedding: Tensor
    f0: Tensor

    @property
    def n_frames(self) -> int:
        """Frames of all utterances, padding included."""
        return self.mel.shape[0] * self.mel.shape[-1]

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """Moves all tensors to a device."""
        return Batch(*(t.to(device, non_blocking=non_blocking) for t in vars(self).values()))

    def pin_memory(self) -> "Batch":
        """Copies all tensors to page-locked memory."""
        return Batch(*(tensor.pin_memory() for tensor in vars(self).values()))


@dataclass(frozen=True)
class Example:
    """What there is to show of one utterance.

    Attributes: speaker; mel, (n_mels, T), all of it; embedding, (E,); f0, (T,), as of `Batch`.
    """

    speaker: str
    mel: Tensor
    embedding: Tensor
    f0: Tensor


def draw(
    rng: np.random.Generator,
    n_frames: int,
    crop_frames: int | None,
    n_warps: int,
    warp_probability: float,
) -> tuple[int, int, int]:
    """Where a random crop begins and ends, in frames, and which copy the encoder hears."""
    length = min(crop_frames or n_frames, n_frames)
    start = int(rng.integers(n_frames - length + 1))
    warped = n_warps > 0 and rng.random() < warp_probability
    return start, start + length, int(rng.integers(n_warps)) + 1 if warped else 0


class Crops(Dataset):
    """Random crops of cached mels; an item is a pure function of (seed, epoch, position).

    Args:
        files: where the features lie.
        crop_frames: length of the crops; None gives whole utterances.
        warp_probability: how often the encoder hears one of the warped copies, where there are
            some; `augmentations`: what else is done to what it hears.
        voices: embeddings (n_copies, embedding_size) of the speakers, in place of every
            utterance's own.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        files: FeatureFiles,
        crop_frames: int | None,
        seed: int,
        warp_probability: float = 0.0,
        augmentations: Sequence[Augmentation] = (),
        voices: dict[str, Tensor] | None = None,
    ):
        self.utterances = list(utterances)
        self.files = files
        self.crop_frames = crop_frames
        self.seed = seed
        self.warp_probability = warp_probability
        self.augmentations = augmentations
        self.voices = voices

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, item: Item) -> tuple[Tensor, ...]:
        """(epoch, position, utterance) -> mel (n_mels, T), embedding (E,), both as heard, f0."""
        epoch, position, index = item
        utterance = self.utterances[index]
        rng = np.random.default_rng((self.seed, epoch, position))
        n_warps = len(self.files.warps) - 1
        start, stop, copy = draw(
            rng, utterance.n_frames, self.crop_frames, n_warps, self.warp_probability
        )
        mel = self.files.read_mel(utterance.piece, start, stop)
        heard_mel = self.files.read_mel(utterance.piece, start, stop, copy) if copy else mel
        for augment in self.augmentations:
            heard_mel = augment(heard_mel, rng)
        voices = [self._voice(utterance, heard) for heard in (0, copy)]
        return (
            mel,
            voices[0],
            heard_mel,
            voices[1],
            self.files.read_f0(utterance.piece, start, stop),
        )

    def _voice(self, utterance: Utterance, copy: int) -> Tensor:
        if self.voices is not None:
            return self.voices[utterance.speaker][copy]
        return self.files.read_embedding(utterance.piece, copy)


def collate(items: Sequence[tuple[Tensor, ...]]) -> Batch:
    """Pads the mels (n_mels, T) of items with zeros to the longest of them."""
    mels, embeddings, heard_mels, heard_embeddings, f0 = zip(*items, strict=True)
    lengths = torch.tensor([mel.shape[-1] for mel in mels])
    return Batch(
        mel=_padded(mels),
        lengths=lengths,
        embedding=torch.stack(embeddings),
        heard_mel=_padded(heard_mels),
        heard_embedding=torch.stack(heard_embeddings),
        f0=pad_sequence(f0, batch_first=True),
    )


def _padded(mels: Sequence[Tensor]) -> Tensor:
    return pad_sequence([mel.T for mel in mels], batch_first=True).transpose(1, 2)


def speaker_voices(
    utterances: Sequence[Utterance],
    files: FeatureFiles,
    average: Callable[[Sequence[np.ndarray]], np.ndarray],
) -> dict[str, Tensor]:
    """Mean embeddings (n_copies, embedding_size) of the speakers of some utterances."""
    by_speaker = defaultdict(list)
    for utterance in utterances:
        by_speaker[utterance.speaker].append(utterance.piece)
    return {
        speaker: torch.stack(
            [
                torch.from_numpy(average([files.read_embedding(p, copy).numpy() for p in pieces]))
                for copy in range(len(files.warps))
            ]
        )
        for speaker, pieces in by_speaker.items()
    }


def outlive_signals(_worker: int) -> None:
    """Lets a DataLoader's worker ignore Ctrl-C and SIGTERM, which are sent to all processes.

    The training still needs it for the step after which it saves and leaves, and then ends it.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
