"""Random crops of mels with their speaker embeddings: chosen, cut, and joined to batches."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from vc_lightning.data.crops.order import Item
from vc_lightning.data.features.files import FeatureFiles, UtteranceFeatures
from vc_lightning.data.manifest import Utterance

Augmentation = Callable[[Tensor, np.random.Generator], Tensor]
MIN_REFERENCE = 32  # frames


@dataclass(frozen=True)
class CropBatch:
    """Crops of one batch, zero-padded to the longest.

    Attributes:
        target_mel: (B, n_mels, T), the mel to reconstruct.
        lengths: (B,), number of frames that are not padding.
        target_embedding: (B, E), speaker embedding of `target_mel`.
        input_mel: (B, n_mels, T), the encoder's input: `target_mel`, or a VTLP copy of the same
            frames, possibly augmented.
        input_embedding: (B, E), speaker embedding of `input_mel`.
        f0: (B, T), pitch of `target_mel` in Hz, 0 where unvoiced or not computed.
        teacher: (B, T, D), the teacher's features; D is 0 without a teacher.
        heard: (B, D, T), what a recogniser hears in the recording of `input_mel`; D is 0 for a
            network that does not listen.
        acoustics: (B, A), `acoustics.describe` of the recording of `target_mel`; A is 0 where the
            network does not use it.
        reference_mel: (B, n_mels, R), other frames of the recording of `target_mel`, from which a
            network takes the detail of the voice; R is 0 where it does not.
        reference_heard: (B, D, R), what a recogniser hears in them.
        reference_lengths: (B,), number of them that are not padding.
    """

    target_mel: Tensor
    lengths: Tensor
    target_embedding: Tensor
    input_mel: Tensor
    input_embedding: Tensor
    f0: Tensor
    teacher: Tensor
    heard: Tensor
    acoustics: Tensor
    reference_mel: Tensor = field(default_factory=lambda: torch.zeros(0))
    reference_heard: Tensor = field(default_factory=lambda: torch.zeros(0))
    reference_lengths: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))

    @property
    def size(self) -> int:
        """Number of crops B."""
        return len(self.target_mel)

    @property
    def n_frames(self) -> int:
        """Number of frames of all crops, padding included."""
        return self.target_mel.shape[0] * self.target_mel.shape[-1]

    def apply(self, change: Callable[[Tensor], Tensor]) -> "CropBatch":
        """Change all tensors alike."""
        return CropBatch(*(change(tensor) for tensor in vars(self).values()))

    def to(self, device: torch.device, non_blocking: bool = False) -> "CropBatch":
        """Move all tensors to a device."""
        return self.apply(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "CropBatch":
        """Copy all tensors to page-locked memory."""
        return self.apply(Tensor.pin_memory)


@dataclass(frozen=True)
class Example:
    """One whole utterance, to be converted and shown during training.

    Attributes:
        speaker: Name of the speaker.
        mel: (n_mels, T).
        embedding: (E,), the utterance's speaker embedding.
        f0: (T,) in Hz, 0 where unvoiced or not computed.
        heard: (D, T), the recogniser's features; D is 0 for a network that does not listen.
    """

    speaker: str
    mel: Tensor
    embedding: Tensor
    f0: Tensor
    heard: Tensor

    @classmethod
    def of(cls, speaker: str, features: UtteranceFeatures) -> "Example":
        """Read an example."""
        n = features.n_frames
        f0, heard = features.read_f0(0, n), features.read_heard(0, n)
        return cls(speaker, features.read_mel(0, n), features.read_embedding(), f0, heard)


@dataclass(frozen=True)
class VtlpCopies:
    """VTLP copies allowed as encoder input and as target; copy 0 is the recording itself.

    VTLP is vocal tract length perturbation: the same words with a stretched frequency axis sound
    like another speaker.

    Attributes:
        input: Numbers of the copies that may be the encoder's input.
        input_probability: Share of the crops whose input is one of them.
        target: Numbers of the copies that may be the target, as if recorded by further speakers.
        target_probability: Share of the crops whose target is one of them.
    """

    input: Sequence[int] = ()
    input_probability: float = 0.0
    target: Sequence[int] = ()
    target_probability: float = 0.0


NO_COPIES = VtlpCopies()


@dataclass(frozen=True)
class CropChoice:
    """A random crop: frames start…stop, and the numbers of its input and target copies."""

    start: int
    stop: int
    input_copy: int
    target_copy: int


@dataclass(frozen=True)
class Cropping:
    """How crops are cut out of utterances.

    Attributes:
        frames: Length of the crops; None gives whole utterances.
        copies: VTLP copies allowed as input and as target.
        factors: VTLP factors of all copies, 1 first.
        augmentations: Further changes to the encoder's input.
        with_acoustics: Whether the acoustics of the targets are needed.
        reference_frames: Most frames around a crop that are its reference; 0 for none.
    """

    frames: int | None
    copies: VtlpCopies = NO_COPIES
    factors: Sequence[float] = (1.0,)
    augmentations: Sequence[Augmentation] = ()
    with_acoustics: bool = False
    reference_frames: int = 0

    def plain(self) -> "Cropping":
        """Return the same without copies and augmentations, for validation."""
        return replace(self, copies=NO_COPIES, augmentations=())

    def cut(self, features: UtteranceFeatures, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Cut a random crop.

        Args:
            features: The utterance.
            rng: Source of all randomness.

        Returns:
            The tensors of a `CropBatch` without `lengths`, without the batch's dimension.
        """
        crop = self._choose(features.n_frames, rng)
        span = crop.start, crop.stop
        target_mel = features.read_mel(*span, crop.target_copy)
        input_mel = target_mel
        if crop.input_copy != crop.target_copy:
            input_mel = features.read_mel(*span, crop.input_copy)
        for augment in self.augmentations:
            input_mel = augment(input_mel, rng)
        heard = features.read_heard(*span, crop.input_copy)
        reference = target_mel[:, :0], heard[:, :0]
        if self.reference_frames:
            reference = self._reference(features, crop)
        return (
            target_mel,
            features.read_embedding(crop.target_copy),
            input_mel,
            features.read_embedding(crop.input_copy),
            # VTLP stretches all frequencies, the pitch among them.
            features.read_f0(*span) * self.factors[crop.target_copy],
            features.read_teacher(*span),
            heard,
            features.acoustics if self.with_acoustics else torch.zeros(0),
            *reference,
        )

    def _choose(self, n_frames: int, rng: np.random.Generator) -> CropChoice:
        """Choose frames; input and target are one copy only if both are copy 0, the recording."""
        length = min(self.frames or n_frames, n_frames)
        start = int(rng.integers(n_frames - length + 1))
        copies = self.copies
        input_copy = _choose_copy(rng, copies.input, copies.input_probability)
        target_copy = _choose_copy(rng, copies.target, copies.target_probability)
        if input_copy == target_copy:
            input_copy = 0  # so that the input's voice differs from the target's
        return CropChoice(start, start + length, input_copy, target_copy)

    def _reference(self, features: UtteranceFeatures, crop: CropChoice) -> tuple[Tensor, Tensor]:
        """Read mel (n_mels, R) and features (D, R) of the frames next to a crop, in its voice."""
        spans = reference_spans(crop, features.n_frames, self.reference_frames)
        copy = crop.target_copy
        return (
            torch.cat([features.read_mel(*span, copy) for span in spans], dim=-1),
            torch.cat([features.read_heard(*span, copy) for span in spans], dim=-1),
        )


def _choose_copy(rng: np.random.Generator, copies: Sequence[int], probability: float) -> int:
    """Choose one of the copies with the given probability, else copy 0."""
    if not copies or rng.random() >= probability:
        return 0
    return copies[int(rng.integers(len(copies)))]


def reference_spans(crop: CropChoice, n_frames: int, longest: int) -> list[tuple[int, int]]:
    """Choose the frames next to a crop that show its voice, as evenly on both sides as possible.

    Args:
        crop: The crop.
        n_frames: Length of the utterance.
        longest: Most frames to choose, at least 1.

    Returns:
        First frame and end of the spans before and after the crop; of the crop itself where the
        utterance has fewer than `MIN_REFERENCE` other frames.
    """
    n_before, n_after = crop.start, n_frames - crop.stop
    if n_before + n_after < MIN_REFERENCE:
        return [(crop.start, min(crop.stop, crop.start + longest))]
    before = min(n_before, max(longest // 2, longest - n_after))
    after = min(n_after, longest - before)
    return [(crop.start - before, crop.start), (crop.stop, crop.stop + after)]


class Crops(Dataset):
    """Random crops of cached features; an item is a pure function of (seed, epoch, position).

    Args:
        utterances: The utterances to crop.
        files: Reads the cached features.
        cropping: How crops are cut.
        seed: Seed of all crops.
        embeddings: Mean embeddings (n_copies, E) by speaker, used in place of each utterance's.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        files: FeatureFiles,
        cropping: Cropping,
        seed: int,
        embeddings: dict[str, Tensor] | None = None,
    ):
        voices = embeddings or {}
        self.features = [files.of(u.segment, voices.get(u.speaker)) for u in utterances]
        self.cropping = cropping
        self.seed = seed

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, item: Item) -> tuple[Tensor, ...]:
        """Read a crop, for `collate`; `item` is (epoch, position, index of the utterance)."""
        epoch, position, index = item
        rng = np.random.default_rng((self.seed, epoch, position))
        return self.cropping.cut(self.features[index], rng)

    def collate(self, items: Sequence[tuple[Tensor, ...]]) -> CropBatch:
        """Make a batch of items."""
        return collate(items)


def collate(items: Sequence[tuple[Tensor, ...]]) -> CropBatch:
    """Make a batch of crops, zero-padded to the longest."""
    columns = zip(*items, strict=True)
    target_mels, target_embeddings, input_mels, input_embeddings, f0, teacher, *rest = columns
    heard, acoustics, reference_mels, reference_heard = rest
    return CropBatch(
        target_mel=_padded(target_mels),
        lengths=torch.tensor([mel.shape[-1] for mel in target_mels]),
        target_embedding=torch.stack(target_embeddings),
        input_mel=_padded(input_mels),
        input_embedding=torch.stack(input_embeddings),
        f0=pad_sequence(list(f0), batch_first=True),
        teacher=pad_sequence(list(teacher), batch_first=True),
        heard=_padded(heard),
        acoustics=torch.stack(acoustics),
        reference_mel=_padded(reference_mels),
        reference_heard=_padded(reference_heard),
        reference_lengths=torch.tensor([mel.shape[-1] for mel in reference_mels]),
    )


def _padded(mels: Sequence[Tensor]) -> Tensor:
    return pad_sequence([mel.T for mel in mels], batch_first=True).transpose(1, 2)


def speaker_embeddings(
    utterances: Sequence[Utterance],
    files: FeatureFiles,
    average: Callable[[Sequence[np.ndarray]], np.ndarray],
) -> dict[str, Tensor]:
    """Average the embeddings of each speaker's utterances.

    Args:
        utterances: Utterances whose features are cached.
        files: Reads the cached features.
        average: Averages embeddings as the speaker encoder does.

    Returns:
        Mean embeddings (n_copies, E) by speaker.
    """
    by_speaker = defaultdict(list)
    for utterance in utterances:
        by_speaker[utterance.speaker].append(files.of(utterance.segment))
    copies = range(len(files.factors))
    return {
        speaker: torch.stack(
            [
                torch.from_numpy(average([one.read_embedding(copy).numpy() for one in features]))
                for copy in copies
            ]
        )
        for speaker, features in by_speaker.items()
    }
