"""Progress of long work: callbacks that take the share that is done."""

from collections.abc import Callable

Progress = Callable[[float], None]  # takes the share of the work that is done, up to 1


def no_progress(share: float) -> None:
    """Ignore the progress."""


def part_of(progress: Progress, start: float, stop: float) -> Progress:
    """Make a progress callback for the part of the work from one share of it to another."""
    return lambda share: progress(start + (stop - start) * share)
