"""Order of the utterances: a pure function of seed, epoch, position and process."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from vc_lightning.common.errors import InputError
from vc_lightning.data.manifest import Utterance

SAMPLINGS = ("utterance", "duration", "speaker")

Item = tuple[int, int, int]  # epoch, position in it, utterance


def shares(utterances: Sequence[Utterance], sampling: str) -> np.ndarray | None:
    """Compute the probability that each utterance is drawn.

    Args:
        utterances: The utterances.
        sampling: "utterance" (each once an epoch), "duration" (each second of speech with equal
            probability) or "speaker" (each speaker with equal probability).

    Returns:
        Probabilities (n,); None for "utterance".
    """
    if sampling == "utterance":
        return None
    if sampling == "duration":
        likely = np.array([u.n_frames for u in utterances], dtype=np.float64)
    else:
        counts = Counter(u.speaker for u in utterances)
        likely = np.array([1 / counts[u.speaker] for u in utterances])
    return likely / likely.sum()


@dataclass(eq=False)
class EpochBatches(Sampler[list[Item]]):
    """The batches of one of `world_size` processes; items are (epoch, position, utterance).

    Every iteration is an epoch: the Trainer says which one by `set_epoch`. An epoch has as many
    positions as there are utterances; none is lost or repeated. Joined over
    all processes, batch b is the batch b that one process would get with world_size times the
    batch size. Only the last batch of an epoch has another size.

    Attributes:
        size: Number of utterances.
        batch_size: Size of the batches of one process.
        shuffle: Whether each epoch has a random order of its own.
        seed: Seed of the order.
        shares: Probability of each utterance; None draws each once an epoch.
        rank: Number of this process.
        world_size: Number of processes.
        start: First epoch and first batch of it, after a resume.
    """

    size: int
    batch_size: int
    shuffle: bool
    seed: int
    shares: np.ndarray | None = None
    rank: int = 0
    world_size: int = 1
    start: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.size < self.world_size:
            raise InputError(f"{self.size} utterances are fewer than {self.world_size} processes")
        self.epoch, self.first_batch = self.start
        self.joint_size = self.batch_size * self.world_size
        self.n_batches = -(-self.size // self.joint_size)
        if self.n_batches > 1 and 0 < self.size % self.joint_size < self.world_size:
            self.n_batches -= 1  # a rest smaller than world_size joins the batch before it

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[list[Item]]:
        first_batch, self.first_batch = self.first_batch, 0  # later epochs are whole
        yield from self.of_epoch(self.epoch, first_batch)

    @property
    def sampler(self) -> "EpochBatches":
        """This object: the Trainer calls `set_epoch` of the sampler of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; the Trainer calls this."""
        self.epoch = epoch

    def of_epoch(self, epoch: int, first_batch: int = 0) -> Iterator[list[Item]]:
        """Yield the batches of an epoch from `first_batch` on."""
        epoch = epoch if self.shuffle else 0
        order = self.order(epoch)
        for batch in range(first_batch, self.n_batches):
            start = batch * self.joint_size
            stop = self.size if batch == self.n_batches - 1 else start + self.joint_size
            bounds = np.linspace(start, stop, self.world_size + 1).astype(int)  # of the processes
            start, stop = bounds[self.rank : self.rank + 2]
            yield [(epoch, position, int(order[position])) for position in range(start, stop)]

    def order(self, epoch: int) -> np.ndarray:
        """Choose the utterance (size,) at every position of an epoch."""
        rng = np.random.default_rng((self.seed, epoch))
        if not self.shuffle:
            return np.arange(self.size)
        if self.shares is None:
            return rng.permutation(self.size)
        return rng.choice(self.size, self.size, p=self.shares)
