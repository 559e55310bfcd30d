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

from vc_lightning.common.errors import InputError, require_within
from vc_lightning.data.feature_store import FeatureFiles
from vc_lightning.data.manifest import Utterance
from vc_lightning.data.sampling import Item

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
        teacher: (B, T, D), a teacher's features of the recording; D is 0 where there is none.
    """

    mel: Tensor
    lengths: Tensor
    embedding: Tensor
    heard_mel: Tensor
    heard_embedding: Tensor
    f0: Tensor
    teacher: Tensor

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


@dataclass(frozen=True)
class Warping:
    """Which of an utterance's copies in other voices take part; copy 0 is the recording.

    Attributes:
        heard: copies that the encoder may hear, in `heard_probability` of the crops.
        given: copies that the decoder may have to give, as if they were recordings of other
            speakers, in `given_probability` of the crops.
    """

    heard: Sequence[int] = ()
    heard_probability: float = 0.0
    given: Sequence[int] = ()
    given_probability: float = 0.0


NO_WARPING = Warping()


def warping_of(
    warps: list[float],
    probability: float,
    voice_warps: list[float],
    voice_probability: float,
    copies: list[float],
) -> Warping:
    """The copies that `data.warps` and `data.voice_warps` name; InputError when they can not be.

    Args: copies, the warps of all that there are, in their order.
    """
    for warp in warps:
        require_within(0.5, 2, "data", warps=warp)
    for warp in voice_warps:
        if warp not in warps:
            raise InputError(f"data.voice_warps={warp}: is none of data.warps={warps}")
    require_within(0, 1 + 1e-9, "data", warp_probability=probability)
    require_within(0, 1 + 1e-9, "data", voice_warp_probability=voice_probability)
    heard, given = ([1 + copies.index(warp) for warp in chosen] for chosen in (warps, voice_warps))
    return Warping(heard, probability, given, voice_probability)


@dataclass(frozen=True)
class Draw:
    """A random crop: frames start…stop, the copies that are `heard` and `given`."""

    start: int
    stop: int
    heard: int
    given: int


def draw(
    rng: np.random.Generator, n_frames: int, crop_frames: int | None, warping: Warping
) -> Draw:
    """Where a random crop of n_frames begins and ends, and which copies take part."""
    length = min(crop_frames or n_frames, n_frames)
    start = int(rng.integers(n_frames - length + 1))
    heard = _one_of(rng, warping.heard, warping.heard_probability)
    given = _one_of(rng, warping.given, warping.given_probability)
    if heard == given:
        heard = 0  # the recording is in another voice than the copy that is given
    return Draw(start, start + length, heard, given)


def _one_of(rng: np.random.Generator, copies: Sequence[int], probability: float) -> int:
    """One of some copies, or with 1 − probability copy 0; draws nothing where there is none."""
    if not copies or rng.random() >= probability:
        return 0
    return int(copies[rng.integers(len(copies))])


class Crops(Dataset):
    """Random crops of cached mels; an item is a pure function of (seed, epoch, position).

    Args:
        files: where the features lie.
        crop_frames: length of the crops; None gives whole utterances.
        warping: which copies in other voices take part; `augmentations`: what else is done to
            what the encoder hears.
        voices: embeddings (n_copies, embedding_size) of the speakers, in place of every
            utterance's own.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        files: FeatureFiles,
        crop_frames: int | None,
        seed: int,
        warping: Warping = NO_WARPING,
        augmentations: Sequence[Augmentation] = (),
        voices: dict[str, Tensor] | None = None,
    ):
        self.utterances = list(utterances)
        self.files = files
        self.crop_frames = crop_frames
        self.seed = seed
        self.warping = warping
        self.augmentations = augmentations
        self.voices = voices

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, item: Item) -> tuple[Tensor, ...]:
        """(epoch, position, utterance) -> what `collate` takes.

        Returns: mel (n_mels, T), embedding (E,), both as the encoder hears them, f0 (T,), teacher
            (T, D).
        """
        epoch, position, index = item
        utterance = self.utterances[index]
        rng = np.random.default_rng((self.seed, epoch, position))
        crop = draw(rng, utterance.n_frames, self.crop_frames, self.warping)
        span = crop.start, crop.stop
        mel = self.files.read_mel(utterance.piece, *span, crop.given)
        heard_mel = mel
        if crop.heard != crop.given:
            heard_mel = self.files.read_mel(utterance.piece, *span, crop.heard)
        for augment in self.augmentations:
            heard_mel = augment(heard_mel, rng)
        f0 = self.files.read_f0(utterance.piece, *span) * self.files.warps[crop.given]  # (T,)
        voices = [self._voice(utterance, copy) for copy in (crop.given, crop.heard)]
        teacher = self.files.read_teacher(utterance.piece, *span)
        return mel, voices[0], heard_mel, voices[1], f0, teacher

    def _voice(self, utterance: Utterance, copy: int) -> Tensor:
        if self.voices is not None:
            return self.voices[utterance.speaker][copy]
        return self.files.read_embedding(utterance.piece, copy)


def collate(items: Sequence[tuple[Tensor, ...]]) -> Batch:
    """Pads the mels (n_mels, T) of items with zeros to the longest of them."""
    mels, embeddings, heard_mels, heard_embeddings, f0, teacher = zip(*items, strict=True)
    lengths = torch.tensor([mel.shape[-1] for mel in mels])
    return Batch(
        mel=_padded(mels),
        lengths=lengths,
        embedding=torch.stack(embeddings),
        heard_mel=_padded(heard_mels),
        heard_embedding=torch.stack(heard_embeddings),
        f0=pad_sequence(f0, batch_first=True),
        teacher=pad_sequence(teacher, batch_first=True),
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
