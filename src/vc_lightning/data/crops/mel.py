"""Random crops of mels with their speaker embeddings: chosen, cut, and joined to batches."""

import copy
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vc_lightning.common.errors import InputError, require_within
from vc_lightning.data.crops.order import Item
from vc_lightning.data.features.files import CachedFeatures, FeatureFiles, UtteranceFeatures
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.data.manifest import Utterance
from vc_lightning.data.settings import CropSettings

MIN_REFERENCE = 32  # frames of a reference that is not the crop itself
TIME_LAST = ("target_mel", "input_mel", "heard", "reference_mel", "reference_heard")  # fields


class CropBatch(NamedTuple):
    """Crops of one batch, zero-padded to the longest; or one crop, without the dimension B.

    Attributes:
        target_mel: (B, n_mels, T), the mel to reconstruct.
        lengths: (B,), number of frames that are not padding.
        target_embedding: (B, E), speaker embedding of `target_mel`.
        input_mel: (B, n_mels, T), the encoder's input: `target_mel`, or a VTLP copy or conversion
            of the same frames, possibly augmented.
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
    reference_mel: Tensor = torch.zeros(0)
    reference_heard: Tensor = torch.zeros(0)
    reference_lengths: Tensor = torch.zeros(0, dtype=torch.long)

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
        return CropBatch(*map(change, self))


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


class Cropping:
    """Cuts random crops out of utterances.

    VTLP (vocal tract length perturbation) copies say the same words with a stretched frequency
    axis, like another speaker; conversions say them in another speaker's voice. Copy 0 is the
    recording itself.

    Args:
        settings: The settings.
        needs: The features that the network needs.
        factors: VTLP factors of the copies allowed as input.
        available: VTLP factors of all copies 1, 2, … in the cache or the shards.
        conversions_share: Share of the crops whose input is a conversion, a further copy.

    Raises:
        InputError: A factor is out of its range, or a target factor is not one of `factors`.
    """

    def __init__(
        self,
        settings: CropSettings,
        needs: FeatureNeeds,
        factors: Sequence[float],
        available: Sequence[float],
        conversions_share: float = 0.0,
    ):
        for factor in factors:
            require_within(0.5, 2, "data", vtlp_factors=factor)
        for factor in settings.vtlp_target_factors:
            if factor not in factors:
                raise InputError(
                    f"data.vtlp_target_factors={factor}: is not in "
                    f"data.vtlp_factors={list(factors)}; add it there, or leave it out"
                )
        self.settings = settings
        self.factors = [1.0, *available]
        self.input_copies = [1 + available.index(factor) for factor in factors]
        self.target_copies = [1 + available.index(f) for f in settings.vtlp_target_factors]
        self.conversions_share = conversions_share
        self.with_acoustics = needs.acoustics
        self.with_reference = needs.reference

    def plain(self) -> "Cropping":
        """Return the same without copies and augmentations, for validation."""
        plain = copy.copy(self)
        plain.settings = replace(self.settings, augmentations=())
        plain.input_copies = plain.target_copies = []
        plain.conversions_share = 0.0
        return plain

    def cut(self, features: UtteranceFeatures, rng: np.random.Generator) -> CropBatch:
        """Cut a random crop.

        Args:
            features: The utterance.
            rng: Source of all randomness.
        """
        n_frames = features.n_frames
        length = min(self.settings.crop_frames or n_frames, n_frames)
        start = int(rng.integers(n_frames - length + 1))
        stop = start + length
        input_copy = _choose_copy(rng, self.input_copies, self.settings.vtlp_probability)
        target_copy = _choose_copy(rng, self.target_copies, self.settings.vtlp_target_probability)
        if input_copy == target_copy:
            input_copy = 0  # so that the input's voice differs from the target's
        if self.conversions_share > 0 and rng.random() < self.conversions_share:
            input_copy = len(self.factors)  # `FeatureFiles.converted`
        target_mel = features.read_mel(start, stop, target_copy)
        input_mel = target_mel
        if input_copy != target_copy:
            input_mel = features.read_mel(start, stop, input_copy)
        for augment in self.settings.augmentations:
            input_mel = augment(input_mel, rng)
        heard = features.read_heard(start, stop, input_copy)
        reference_mel, reference_heard = target_mel[:, :0], heard[:, :0]
        if self.with_reference:
            spans = reference_spans(start, stop, n_frames, self.settings.reference_frames)
            reference_mel = torch.cat([features.read_mel(*s, target_copy) for s in spans], dim=-1)
            reference_heard = torch.cat(
                [features.read_heard(*s, target_copy) for s in spans], dim=-1
            )
        return CropBatch(
            target_mel=target_mel,
            lengths=torch.tensor(length),
            target_embedding=features.read_embedding(target_copy),
            input_mel=input_mel,
            input_embedding=features.read_embedding(input_copy),
            # VTLP stretches all frequencies, the pitch among them.
            f0=features.read_f0(start, stop) * self.factors[target_copy],
            teacher=features.read_teacher(start, stop),
            heard=heard,
            acoustics=features.acoustics if self.with_acoustics else torch.zeros(0),
            reference_mel=reference_mel,
            reference_heard=reference_heard,
            reference_lengths=torch.tensor(reference_mel.shape[-1]),
        )


def _choose_copy(rng: np.random.Generator, copies: Sequence[int], probability: float) -> int:
    """Choose one of the copies with the given probability, else copy 0."""
    if not copies or rng.random() >= probability:
        return 0
    return copies[int(rng.integers(len(copies)))]


def reference_spans(start: int, stop: int, n_frames: int, longest: int) -> list[tuple[int, int]]:
    """Choose the frames next to a crop that show its voice, as evenly on both sides as possible.

    Args:
        start: First frame of the crop.
        stop: End of the crop.
        n_frames: Length of the utterance.
        longest: Most frames to choose, at least 1.

    Returns:
        First frame and end of the spans before and after the crop; of the crop itself where the
        utterance has fewer than `MIN_REFERENCE` other frames.
    """
    n_before, n_after = start, n_frames - stop
    if n_before + n_after < MIN_REFERENCE:
        return [(start, min(stop, start + longest))]
    before = min(n_before, max(longest // 2, longest - n_after))
    after = min(n_after, longest - before)
    return [(start - before, start), (stop, stop + after)]


@dataclass(eq=False)
class Crops(Dataset):
    """Random crops of cached features; an item is a pure function of (seed, epoch, position).

    Attributes:
        features: The utterances to crop.
        cropping: How crops are cut.
        seed: Seed of all crops.
    """

    features: Sequence[CachedFeatures]
    cropping: Cropping
    seed: int

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, item: Item) -> CropBatch:
        """Read a crop, for `collate`; `item` is (epoch, position, index of the utterance)."""
        epoch, position, index = item
        rng = np.random.default_rng((self.seed, epoch, position))
        return self.cropping.cut(self.features[index], rng)


def collate(crops: Sequence[CropBatch]) -> CropBatch:
    """Make a batch of crops, zero-padded to the longest."""
    columns = dict(zip(CropBatch._fields, zip(*crops, strict=True), strict=True))
    joined = {
        # Frame by frame in memory, as they were read.
        name: _stacked([x.T for x in tensors]).mT if name in TIME_LAST else _stacked(tensors)
        for name, tensors in columns.items()
    }
    return CropBatch(**joined)


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Stack tensors, zero-padded at the end of each dimension to the longest."""
    longest = [max(sizes) for sizes in zip(*(x.shape for x in tensors), strict=True)]
    made = tensors[0].new_zeros(len(tensors), *longest)
    for row, tensor in zip(made, tensors, strict=True):
        row[tuple(map(slice, tensor.shape))] = tensor
    return made


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
