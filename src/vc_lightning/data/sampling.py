"""Which utterances make up which batch: a pure function of seed, epoch, position and process."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from vc_lightning.common.errors import InputError
from vc_lightning.data.manifest import Utterance

SAMPLINGS = ("utterance", "duration", "speaker")

Item = tuple[int, int, int]  # epoch, position in it, utterance


def shares(utterances: Sequence[Utterance], sampling: str) -> np.ndarray | None:
    """How likely each utterance is drawn; None where each comes once an epoch.

    Args: sampling, "utterance" (each once), "duration" (every second of speech is as likely) or
        "speaker" (every speaker is as likely, and within one every utterance).
    """
    if sampling == "utterance":
        return None
    if sampling == "duration":
        likely = np.array([u.n_frames for u in utterances], dtype=np.float64)
    else:
        counts = Counter(u.speaker for u in utterances)
        likely = np.array([1 / counts[u.speaker] for u in utterances])
    return likely / likely.sum()


class EpochBatches(Sampler[list[Item]]):
    """The batches of one of `world_size` processes, each item (epoch, position, utterance).

    An epoch has as many positions as there are utterances. Batch b of all processes together is
    what one process with world_size times the batch size would get; only an epoch's last batch is
    of another size, and no position is lost or doubled.

    Args:
        size: how many utterances there are; `shares`: how likely each is drawn, None for once.
        shuffle: whether the order is random and another in every epoch.
        rank, world_size: which process this is.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        shuffle: bool,
        seed: int,
        shares: np.ndarray | None = None,
        rank: int = 0,
        world_size: int = 1,
    ):
        if size < world_size:
            raise InputError(f"{size} utterances are fewer than {world_size} processes")
        self.size = size
        self.shuffle = shuffle
        self.seed = seed
        self.shares = shares
        self.rank = rank
        self.world_size = world_size
        self.joint_size = batch_size * world_size
        self.n_batches = -(-size // self.joint_size)
        if self.n_batches > 1 and 0 < size % self.joint_size < world_size:
            self.n_batches -= 1  # too few for every process to get one: the batch before has them

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[list[Item]]:
        return self.of_epoch(0)

    def of_epoch(self, epoch: int, first_batch: int = 0) -> Iterator[list[Item]]:
        """The batches of an epoch from a given one on; without shuffling epochs are the same."""
        epoch = epoch if self.shuffle else 0
        order = self.order(epoch)
        for batch in range(first_batch, self.n_batches):
            start = batch * self.joint_size
            stop = self.size if batch == self.n_batches - 1 else start + self.joint_size
            bounds = np.linspace(start, stop, self.world_size + 1).astype(int)  # of the shares
            start, stop = bounds[self.rank : self.rank + 2]
            yield [(epoch, position, int(order[position])) for position in range(start, stop)]

    def order(self, epoch: int) -> np.ndarray:
        """The utterance at every position of an epoch."""
        rng = np.random.default_rng((self.seed, epoch))
        if not self.shuffle:
            return np.arange(self.size)
        if self.shares is None:
            return rng.permutation(self.size)
        return rng.choice(self.size, self.size, p=self.shares)


class EndlessBatches(Sampler[list[Item]]):
    """Epoch after epoch without end, from the first batch that was not trained on yet.

    To the Trainer the training is one long epoch. Its own epochs cannot be resumed exactly: where
    a checkpoint is of the last batch of an epoch, Lightning 2.6 miscounts.
    """

    def __init__(self, epochs: EpochBatches, first_batch: int = 0):
        self.epochs = epochs
        self.first_batch = first_batch

    def __iter__(self) -> Iterator[list[Item]]:
        epoch, batch = divmod(self.first_batch, len(self.epochs))
        while True:
            yield from self.epochs.of_epoch(epoch, batch)
            epoch, batch = epoch + 1, 0
