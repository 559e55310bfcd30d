"""Random crops of streamed shards: their order, and where a resumed training run continues."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vc_lightning.audio import acoustics
from vc_lightning.data import shards
from vc_lightning.data.crops import NO_COPIES, Augmentation, VtlpCopies, choose_crop
from vc_lightning.data.shards import Sample, Shards


@dataclass(frozen=True)
class Position:
    """How far a training run has read its shards; every reader computes its own place from this.

    Attributes:
        epoch: First epoch of the first run.
        runs: Number of batches per process of each run since then.
        batch_size: Size of these batches.
    """

    epoch: int = 0
    runs: tuple[int, ...] = ()
    batch_size: int = 1


START = Position()


class CropStream(IterableDataset):
    """Random crops of streamed mels; a crop is a pure function of (seed, epoch, key).

    Each worker of each process is a reader. In an epoch every shard is read once, by one reader;
    every epoch distributes the shards over the readers in a new random order.

    Args:
        source: The shards.
        epochs: Number of epochs to read, one after the other.
        crop_frames: Length of the crops; None gives whole utterances.
        seed: Seed of order and crops.
        copies: VTLP copies allowed as input and as target.
        factors: VTLP factors of all copies, 1 first.
        augmentations: Further changes to the encoder's input.
        shuffle_buffer: Number of crops from which a reader draws the next one; 0 keeps the order.
        rank: Number of this process.
        world_size: Number of processes.
        position: How far the training has read before.
        with_acoustics: Whether the acoustics of the targets are needed.
    """

    def __init__(
        self,
        source: Shards,
        epochs: int,
        crop_frames: int | None,
        seed: int,
        copies: VtlpCopies = NO_COPIES,
        factors: Sequence[float] = (1.0,),
        augmentations: Sequence[Augmentation] = (),
        shuffle_buffer: int = 0,
        rank: int = 0,
        world_size: int = 1,
        position: Position = START,
        with_acoustics: bool = False,
    ):
        super().__init__()
        self.source = source
        self.epochs = epochs
        self.crop_frames = crop_frames
        self.seed = seed
        self.copies = copies
        self.factors = factors
        self.augmentations = augmentations
        self.shuffle_buffer = shuffle_buffer
        self.rank = rank
        self.world_size = world_size
        self.position = position
        self.with_acoustics = with_acoustics

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        first, n_done = self.place()
        for epoch in range(first, first + self.epochs):
            yield from self.of_epoch(epoch, n_done if epoch == first else 0)

    def place(self) -> tuple[int, int]:
        """Find where this reader continues; a shard read in part is read again.

        Returns:
            The epoch, and how many of its shards this reader has finished.
        """
        worker_id, n_workers = _worker()
        epoch, n_done = self.position.epoch, 0
        for n_batches in self.position.runs:
            own = n_batches // n_workers + (worker_id < n_batches % n_workers)  # workers take turns
            left = own * self.position.batch_size
            while True:
                counts = [self.source.counts[shard] for shard in self._order(epoch)[n_done:]]
                whole = int(np.searchsorted(np.cumsum(counts), left, side="right"))
                if whole < len(counts):
                    n_done += whole
                    break
                left -= sum(counts)
                epoch, n_done = epoch + 1, 0
        return epoch, n_done

    def of_epoch(self, epoch: int, n_done: int = 0) -> Iterator[tuple[Tensor, ...]]:
        """Read this reader's crops of an epoch, without its first `n_done` shards."""
        epoch = epoch if self.shuffle_buffer else 0
        order = self._order(epoch)[n_done:]
        samples = itertools.chain.from_iterable(map(self.source.read, order))
        # Crop before shuffling: whole utterances would fill ten times the memory.
        crops = (self.crop(epoch, sample) for sample in samples)
        if self.shuffle_buffer:
            rng = random.Random(f"{self.seed} {epoch} {self._reader()[0]}")
            shuffle = shards.webdataset.shuffle(self.shuffle_buffer, rng=rng)
            crops = shuffle(crops)
        return crops

    def _order(self, epoch: int) -> np.ndarray:
        """List the numbers of the shards that this reader reads in an epoch."""
        order = np.arange(len(self.source))
        if self.shuffle_buffer:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        reader, n_readers = self._reader()
        return order[reader::n_readers]

    def _reader(self) -> tuple[int, int]:
        """Return the number of this reader, and the number of readers."""
        worker_id, n_workers = _worker()
        return self.rank * n_workers + worker_id, self.world_size * n_workers

    def crop(self, epoch: int, sample: Sample) -> tuple[Tensor, ...]:
        """Crop an utterance, as `Crops.__getitem__` does."""
        rng = np.random.default_rng((self.seed, epoch, sample.key))
        crop = choose_crop(rng, sample.mels.shape[1], self.crop_frames, self.copies)
        embeddings = torch.from_numpy(sample.embeddings)
        target_mel = frames(sample, crop.target_copy, crop.start, crop.stop)
        input_mel = target_mel
        if crop.input_copy != crop.target_copy:
            input_mel = frames(sample, crop.input_copy, crop.start, crop.stop)
        for augment in self.augmentations:
            input_mel = augment(input_mel, rng)
        f0 = torch.from_numpy(sample.f0[crop.start : crop.stop] * self.factors[crop.target_copy])
        teacher = torch.from_numpy(sample.teacher[crop.start : crop.stop]).float()
        return (
            target_mel,
            embeddings[crop.target_copy],
            input_mel,
            embeddings[crop.input_copy],
            f0,
            teacher,
            torch.from_numpy(sample.heard[crop.input_copy, crop.start : crop.stop]).float().T,
            acoustics.describe(frames(sample, 0, 0, sample.mels.shape[1]))
            if self.with_acoustics
            else torch.zeros(0),
        )


class StreamLoader(DataLoader):
    """Loads an endless stream and cuts it into epochs of equal length for the Trainer.

    The stream goes on from epoch to epoch, so that no reader waits for another; without shuffling
    it begins again, so that all epochs are the same.

    Args:
        stream: The crops.
        n_batches: Number of batches in an epoch.
        first_batch: Number of batches of the first epoch that were used before.
        options: Arguments of DataLoader.
    """

    def __init__(self, stream: CropStream, n_batches: int, first_batch: int, **options: Any):
        super().__init__(stream, **options)
        self.n_batches = n_batches
        self.first_batch = first_batch
        self.goes_on = stream.shuffle_buffer > 0
        self.batches: Iterator | None = None

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator:  # type: ignore[override]  # PyTorch names a private class
        first, self.first_batch = self.first_batch, 0
        if self.batches is None or not self.goes_on:
            self.batches = super().__iter__()
            if not self.goes_on:
                return itertools.islice(self.batches, first, self.n_batches)
        return itertools.islice(self.batches, self.n_batches - first)


def frames(sample: Sample, copy: int, start: int, stop: int) -> Tensor:
    """Copy frames of a VTLP copy's mel to float32 (n_mels, stop − start), to free the utterance."""
    return torch.from_numpy(sample.mels[copy, start:stop]).float().T


def _worker() -> tuple[int, int]:
    """Return the number of this worker in its process, and the number of its workers."""
    worker = get_worker_info()
    return (worker.id, worker.num_workers) if worker else (0, 1)
