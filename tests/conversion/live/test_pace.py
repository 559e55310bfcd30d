"""Steps as short as the computer allows."""

import pytest

from vc_lightning.conversion.live import pace


class Clock:
    """A stream whose steps take a given time, and the clock that shows it."""

    sample_rate = 16_000
    block_seconds = pace.SHORTEST_SECONDS
    block_samples = round(16_000 * pace.SHORTEST_SECONDS)

    def __init__(self, seconds, first_seconds):
        self.now, self.seconds, self.first_seconds = 0.0, seconds, first_seconds
        self.lengths = []

    def push(self, samples):
        self.lengths.append(len(samples))
        self.now += self.seconds if len(self.lengths) > 1 else self.first_seconds

    def perf_counter(self):
        return self.now


@pytest.mark.parametrize(
    ("seconds", "block"), [(0.005, 0.064), (0.032, 0.064), (0.04, 0.08), (0.07, 0.14), (1.0, 0.16)]
)
def test_step_lasts_twice_its_computing(monkeypatch, seconds, block):
    clock = Clock(seconds, first_seconds=9.0)
    monkeypatch.setattr(pace, "time", clock)
    assert pace.affordable_block(clock) == pytest.approx(block)
    assert clock.lengths == [24_000, *[1024] * 5]  # the slow first steps are not timed
