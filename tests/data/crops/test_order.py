from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from vc_lightning.common.errors import InputError
from vc_lightning.data.crops.order import EpochBatches, shares
from vc_lightning.data.features.files import Segment
from vc_lightning.data.manifest import Utterance


def test_every_epoch_holds_every_utterance_once():
    batches = EpochBatches(10, 4, shuffle=True, seed=0)
    orders = []
    for epoch in range(3):
        items = [item for batch in batches.of_epoch(epoch) for item in batch]
        assert [item[:2] for item in items] == [(epoch, i) for i in range(10)]
        orders.append([item[2] for item in items])
        assert sorted(orders[-1]) == list(range(10))
    assert orders[0] != orders[1] != orders[2]
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert len(batches) == 3


def test_without_shuffling_every_epoch_is_the_same():
    batches = EpochBatches(3, 2, shuffle=False, seed=0)
    expected = [[(0, 0, 0), (0, 1, 1)], [(0, 2, 2)]]
    assert list(batches.of_epoch(5)) == list(batches) == expected


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("size", [3, 4, 7, 12, 13, 31])
def test_processes_split_every_epoch_exactly(size, batch_size, world_size):
    """Joined, their batches are those of one process with world_size times the batch size."""
    parts = [
        list(EpochBatches(size, batch_size, True, 1, None, rank, world_size))
        for rank in range(world_size)
    ]
    assert len({len(part) for part in parts}) == 1
    assert all(batch for part in parts for batch in part)
    joint = [[i for part in parts for i in part[b]] for b in range(len(parts[0]))]
    assert [i for batch in joint for i in batch] == [
        i for batch in EpochBatches(size, 1, True, 1) for i in batch
    ]
    whole = list(EpochBatches(size, batch_size * world_size, True, 1))
    assert joint[:-1] == whole[: len(joint) - 1]


def test_refuses_more_processes_than_utterances():
    with pytest.raises(InputError, match="2 utterances are fewer than 3 processes"):
        EpochBatches(2, 1, True, 0, None, 0, 3)


def test_epochs_start_anywhere():
    def epochs(start=(0, 0)):
        batches = EpochBatches(7, 2, shuffle=True, seed=3, start=start)  # 4 batches
        for epoch in range(start[0], 3):
            batches.set_epoch(epoch)
            assert len(batches) == 4
            yield from batches

    stream = list(epochs())
    assert stream[4:8] == list(EpochBatches(7, 2, True, 3).of_epoch(1))
    for first in range(12):
        assert list(epochs(divmod(first, 4))) == stream[first:]


def utterance(speaker, n_frames):
    return Utterance(Path(speaker), speaker, "", Segment("", 0, 0, n_frames))


def test_sampling_probabilities():
    utterances = [utterance("a", 10), *(utterance("b", 30) for _ in range(3))]
    assert shares(utterances, "utterance") is None
    np.testing.assert_allclose(shares(utterances, "duration"), [0.1, 0.3, 0.3, 0.3])
    np.testing.assert_allclose(shares(utterances, "speaker"), [1 / 2, 1 / 6, 1 / 6, 1 / 6])
    batches = EpochBatches(4, 4, True, 0, shares(utterances, "speaker"))
    drawn = Counter(index for epoch in range(500) for index in batches.order(epoch))
    assert 900 < drawn[0] < 1100
    assert all(270 < drawn[i] < 400 for i in (1, 2, 3))
