"""What a computer affords in live speech."""

import pytest

from vc_lightning.common.errors import InputError
from vc_lightning.conversion.live import pace
from vc_lightning.conversion.live.pace import Pace, affordable


class Computer:
    """Opens streams whose steps take a given time, and is the clock that shows it."""

    def __init__(self, listening, encoding):
        self.seconds = {True: listening, False: encoding}
        self.now = 0.0
        self.opened = []

    def open_stream(self, wanted):
        self.opened.append(wanted)
        return Stream(self, wanted.listens)

    def perf_counter(self):
        return self.now


class Stream:
    block_samples = 3840

    def __init__(self, computer, listens):
        self.computer, self.listens = computer, listens
        self.n_steps = 0

    def push(self, samples):
        assert len(samples) == self.block_samples
        self.n_steps += 1
        slow_start = 9.0 if self.n_steps <= 2 else 1.0
        self.computer.now += self.computer.seconds[self.listens] * slow_start


@pytest.mark.parametrize(
    ("listening", "encoding", "asked", "expected"),
    [
        (0.02, 0.005, (None, None), Pace(0.064, True)),  # a fast computer
        (0.06, 0.02, (None, None), Pace(0.12, True)),
        (0.13, 0.02, (None, None), Pace(0.064, False)),  # it would have to listen for too long
        (0.2, 0.04, (None, None), Pace(0.08, False)),
        (2.0, 1.0, (None, None), Pace(0.24, False)),  # too slow for anything
        (0.2, 0.04, (None, True), Pace(0.24, True)),  # as asked for
        (0.02, 0.005, (None, False), Pace(0.064, False)),
        (0.06, 0.02, (0.08, None), Pace(0.08, False)),
        (0.06, 0.02, (0.32, None), Pace(0.32, True)),
    ],
)
def test_words_first_then_little_delay(monkeypatch, listening, encoding, asked, expected):
    computer = Computer(listening, encoding)
    monkeypatch.setattr(pace, "time", computer)
    found = affordable(computer.open_stream, *asked)
    assert found.block_seconds == pytest.approx(expected.block_seconds)
    assert found.listens == expected.listens


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (("abc", None), "block_seconds=abc: give a number from 0.01 to below 10"),
        ((99, None), "block_seconds=99: give a number from 0.01 to below 10"),
        ((None, "maybe"), "listens=maybe: give true or false"),
    ],
)
def test_wrong_wishes_are_refused_before_anything_is_timed(asked, sentence):
    computer = Computer(0.02, 0.005)
    with pytest.raises(InputError, match=sentence):
        affordable(computer.open_stream, *asked)
    assert computer.opened == []
