"""Random crops of cached mels with their speaker embeddings, and batches of crops."""

import signal
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from vc_lightning.audio import acoustics
from vc_lightning.common.errors import InputError, require_within
from vc_lightning.data.feature_store import FeatureFiles, Segment
from vc_lightning.data.manifest import Utterance
from vc_lightning.data.sampling import Item

Augmentation = Callable[[Tensor, np.random.Generator], Tensor]


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

    @property
    def size(self) -> int:
        """Number of crops B."""
        return len(self.target_mel)

    @property
    def n_frames(self) -> int:
        """Number of frames of all crops, padding included."""
        return self.target_mel.shape[0] * self.target_mel.shape[-1]

    def to(self, device: torch.device, non_blocking: bool = False) -> "CropBatch":
        """Move all tensors to a device."""
        return CropBatch(*(t.to(device, non_blocking=non_blocking) for t in vars(self).values()))

    def pin_memory(self) -> "CropBatch":
        """Copy all tensors to page-locked memory."""
        return CropBatch(*(tensor.pin_memory() for tensor in vars(self).values()))


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


def choose_copies(
    factors: list[float],
    probability: float,
    target_factors: list[float],
    target_probability: float,
    available: list[float],
) -> VtlpCopies:
    """Find the copies that `data.vtlp_factors` and `data.vtlp_target_factors` name.

    Args:
        factors: VTLP factors of the copies allowed as input.
        probability: Share of the crops whose input is a copy.
        target_factors: VTLP factors of the copies allowed as target, a subset of `factors`.
        target_probability: Share of the crops whose target is a copy.
        available: VTLP factors of all copies 1, 2, … in the cache or the shards.

    Returns:
        The numbers of the copies.

    Raises:
        InputError: A value is out of its range, or a target factor is none of `factors`.
    """
    for factor in factors:
        require_within(0.5, 2, "data", vtlp_factors=factor)
    for factor in target_factors:
        if factor not in factors:
            raise InputError(
                f"data.vtlp_target_factors={factor}: is none of data.vtlp_factors={factors}"
            )
    require_within(0, 1 + 1e-9, "data", vtlp_probability=probability)
    require_within(0, 1 + 1e-9, "data", vtlp_target_probability=target_probability)
    return VtlpCopies(
        input=[1 + available.index(factor) for factor in factors],
        input_probability=probability,
        target=[1 + available.index(factor) for factor in target_factors],
        target_probability=target_probability,
    )


@dataclass(frozen=True)
class CropChoice:
    """A random crop: frames start…stop, and the numbers of its input and target copies."""

    start: int
    stop: int
    input_copy: int
    target_copy: int


def choose_crop(
    rng: np.random.Generator, n_frames: int, crop_frames: int | None, copies: VtlpCopies
) -> CropChoice:
    """Choose a random crop of an utterance.

    Args:
        rng: Source of all randomness.
        n_frames: Length of the utterance.
        crop_frames: Length of the crop; None, or more than `n_frames`, gives the whole utterance.
        copies: Copies to choose from.

    Returns:
        The crop; input and target are the same copy only if both are copy 0, the recording.
    """
    length = min(crop_frames or n_frames, n_frames)
    start = int(rng.integers(n_frames - length + 1))
    input_copy = _choose_copy(rng, copies.input, copies.input_probability)
    target_copy = _choose_copy(rng, copies.target, copies.target_probability)
    if input_copy == target_copy:
        input_copy = 0  # the recording, so that the input's voice differs from the target's
    return CropChoice(start, start + length, input_copy, target_copy)


def _choose_copy(rng: np.random.Generator, copies: Sequence[int], probability: float) -> int:
    """Choose one of the copies with the given probability, else copy 0."""
    if not copies or rng.random() >= probability:
        return 0
    return copies[int(rng.integers(len(copies)))]


class Crops(Dataset):
    """Random crops of cached mels; an item is a pure function of (seed, epoch, position).

    Args:
        utterances: The utterances to crop.
        files: Reads the cached features.
        crop_frames: Length of the crops; None gives whole utterances.
        seed: Seed of all crops.
        copies: VTLP copies allowed as input and as target.
        augmentations: Further changes to the encoder's input.
        embeddings: Mean embeddings (n_copies, E) by speaker, used in place of each utterance's.
        with_acoustics: Whether the acoustics of the targets are needed.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        files: FeatureFiles,
        crop_frames: int | None,
        seed: int,
        copies: VtlpCopies = NO_COPIES,
        augmentations: Sequence[Augmentation] = (),
        embeddings: dict[str, Tensor] | None = None,
        with_acoustics: bool = False,
    ):
        self.utterances = list(utterances)
        self.files = files
        self.crop_frames = crop_frames
        self.seed = seed
        self.copies = copies
        self.augmentations = augmentations
        self.embeddings = embeddings
        self.with_acoustics = with_acoustics
        self._acoustics: dict[Segment, Tensor] = {}

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, item: Item) -> tuple[Tensor, ...]:
        """Read a crop, for `collate`.

        Args:
            item: (epoch, position, index of the utterance).

        Returns:
            The tensors of a `CropBatch` without `lengths`, without the batch's dimension.
        """
        epoch, position, index = item
        utterance = self.utterances[index]
        rng = np.random.default_rng((self.seed, epoch, position))
        crop = choose_crop(rng, utterance.n_frames, self.crop_frames, self.copies)
        span = crop.start, crop.stop
        target_mel = self.files.read_mel(utterance.segment, *span, crop.target_copy)
        input_mel = target_mel
        if crop.input_copy != crop.target_copy:
            input_mel = self.files.read_mel(utterance.segment, *span, crop.input_copy)
        for augment in self.augmentations:
            input_mel = augment(input_mel, rng)
        # VTLP stretches all frequencies, the pitch among them.
        f0 = self.files.read_f0(utterance.segment, *span) * self.files.factors[crop.target_copy]
        teacher = self.files.read_teacher(utterance.segment, *span)
        return (
            target_mel,
            self._embedding(utterance, crop.target_copy),
            input_mel,
            self._embedding(utterance, crop.input_copy),
            f0,
            teacher,
            self.files.read_heard(utterance.segment, *span, crop.input_copy),
            self._acoustics_of(utterance.segment),
        )

    def _acoustics_of(self, segment: Segment) -> Tensor:
        if not self.with_acoustics:
            return torch.zeros(0)
        if segment not in self._acoustics:
            mel = self.files.read_mel(segment, 0, segment.n_frames)
            self._acoustics[segment] = acoustics.describe(mel)
        return self._acoustics[segment]

    def collate(self, items: Sequence[tuple[Tensor, ...]]) -> CropBatch:
        """Make a batch of items."""
        return collate(items)

    def _embedding(self, utterance: Utterance, copy: int) -> Tensor:
        if self.embeddings is not None:
            return self.embeddings[utterance.speaker][copy]
        return self.files.read_embedding(utterance.segment, copy)


def collate(items: Sequence[tuple[Tensor, ...]]) -> CropBatch:
    """Make a batch of the items of `Crops`, zero-padded to the longest."""
    columns = zip(*items, strict=True)
    target_mels, target_embeddings, input_mels, input_embeddings, f0, teacher, *rest = columns
    heard, acoustics_of_targets = rest
    return CropBatch(
        target_mel=_padded(target_mels),
        lengths=torch.tensor([mel.shape[-1] for mel in target_mels]),
        target_embedding=torch.stack(target_embeddings),
        input_mel=_padded(input_mels),
        input_embedding=torch.stack(input_embeddings),
        f0=pad_sequence(list(f0), batch_first=True),
        teacher=pad_sequence(list(teacher), batch_first=True),
        heard=_padded(heard),
        acoustics=torch.stack(acoustics_of_targets),
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
        by_speaker[utterance.speaker].append(utterance.segment)
    return {
        speaker: torch.stack(
            [
                torch.from_numpy(average([files.read_embedding(s, copy).numpy() for s in segments]))
                for copy in range(len(files.factors))
            ]
        )
        for speaker, segments in by_speaker.items()
    }


def ignore_signals(_worker: int) -> None:
    """Let a DataLoader worker ignore Ctrl-C and SIGTERM, which reach all processes of a run.

    The main process needs its workers for one more step, saves, and then ends them itself.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
