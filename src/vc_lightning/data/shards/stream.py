"""Random crops of streamed shards: their order, and where a resumed training run continues."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vc_lightning.data.crops.mel import CropBatch, Cropping
from vc_lightning.data.shards.format import Sample, Shards, webdataset


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


@dataclass(eq=False)
class CropStream(IterableDataset):
    """Random crops of streamed mels; a crop is a pure function of (seed, epoch, key).

    Each worker of each process is a reader. In an epoch every shard is read once, by one reader;
    every epoch distributes the shards over the readers in a new random order.

    Attributes:
        source: The shards.
        epochs: Number of epochs to read, one after the other.
        cropping: How crops are cut.
        seed: Seed of order and crops.
        shuffle_buffer: Number of crops from which a reader draws the next one; 0 keeps the order.
        process: Number of this process, and number of processes.
        position: How far the training run has read before.
    """

    source: Shards
    epochs: int
    cropping: Cropping
    seed: int
    shuffle_buffer: int = 0
    process: tuple[int, int] = (0, 1)
    position: Position = START

    def __iter__(self) -> Iterator[CropBatch]:
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

    def of_epoch(self, epoch: int, n_done: int = 0) -> Iterator[CropBatch]:
        """Read this reader's crops of an epoch, without its first `n_done` shards."""
        epoch = epoch if self.shuffle_buffer else 0
        order = self._order(epoch)[n_done:]
        samples = itertools.chain.from_iterable(map(self.source.read, order))
        # Crop before shuffling: whole utterances would fill ten times the memory.
        crops = (self.crop(epoch, sample) for sample in samples)
        if self.shuffle_buffer:
            rng = random.Random(f"{self.seed} {epoch} {self._reader()[0]}")
            shuffle = webdataset.shuffle(self.shuffle_buffer, rng=rng)
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
        (rank, n_processes), (worker_id, n_workers) = self.process, _worker()
        return rank * n_workers + worker_id, n_processes * n_workers

    def crop(self, epoch: int, sample: Sample) -> CropBatch:
        """Crop an utterance, as `Crops.__getitem__` does."""
        rng = np.random.default_rng((self.seed, epoch, sample.key))
        return self.cropping.cut(sample, rng)


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


def _worker() -> tuple[int, int]:
    """Return the number of this worker in its process, and the number of its workers."""
    worker = get_worker_info()
    return (worker.id, worker.num_workers) if worker else (0, 1)
