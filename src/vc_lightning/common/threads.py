"""Choose how many threads PyTorch uses: those for which other programs leave cores free.

PyTorch's threads wait for each other after every operation, and they wait by spinning. Beside a
busy program on each core, two threads can take fifty times as long as one. Two tasks that need not
wait for each other cost nothing there: `second_thread`.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psutil
import torch

SECONDS = 0.5  # a shorter time says too little of what other programs do
FIRST_SECONDS = 0.1  # but more than the load of the last minute, which is the only other number
FREE_SHARE = 0.7  # of a core that must be free for a further thread


class CoreMeter:
    """Measures how many cores other programs keep busy."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._wall, self._theirs = time.monotonic(), self._time_of_others()
        self._others: float | None = None  # not measured

    def others(self) -> float:
        """Return the mean number of cores that other programs used in the last `SECONDS` or more.

        Calls within `SECONDS` return the same number. The first one may measure a shorter time, of
        at least `FIRST_SECONDS`; before that it returns the load of the last minute.
        """
        wall = time.monotonic() - self._wall
        if wall >= (FIRST_SECONDS if self._others is None else SECONDS):
            theirs = self._time_of_others()
            self._others = max(0.0, (theirs - self._theirs) / wall)
            self._wall, self._theirs = time.monotonic(), theirs
        return psutil.getloadavg()[0] if self._others is None else self._others

    def _time_of_others(self) -> float:
        """Return the processor time of all programs but this one, in seconds."""
        cpu, own = psutil.cpu_times(), self._process.cpu_times()
        busy = sum(getattr(cpu, name, 0.0) for name in ("user", "nice", "system"))
        return busy - own.user - own.system


def threads_beside(others: float, n_cores: int) -> int:
    """Return how many threads pay beside programs that keep `others` cores busy; at least 1."""
    return max(1, int(n_cores - others + 1 - FREE_SHARE))


class ThreadChooser:
    """Sets PyTorch's number of threads to what pays now; `OMP_NUM_THREADS` is left as it is."""

    def __init__(self) -> None:
        self.most = torch.get_num_threads()
        self.has_choice = self.most > 1 and "OMP_NUM_THREADS" not in os.environ
        self._meter = CoreMeter() if self.has_choice else None

    def choose(self) -> int:
        """Set the number of threads by what other programs did last, and return it."""
        if self._meter is not None:
            n_threads = min(self.most, threads_beside(self._meter.others(), self.most))
            if n_threads != torch.get_num_threads():
                torch.set_num_threads(n_threads)
        return torch.get_num_threads()


class AtOnce(Executor):
    """Does every task at once, in the thread that submits it."""

    def submit(self, task: Callable, /, *args: Any, **kwargs: Any) -> Future:
        """Do a task, and keep its result or its error."""
        future: Future = Future()
        try:
            future.set_result(task(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def second_thread(takes_half: bool) -> Iterator[Executor]:
    """Open a thread beside the present one, where PyTorch computes with one thread in each.

    Where it computes with several, all of them share each task, one task after the other, as two
    tasks rarely take equally long, so that one core would wait.

    Args:
        takes_half: Whether the tasks of both threads take about equally long; two threads of
            PyTorch then become one in each.

    Yields:
        An executor for tasks that need not wait for what the present thread does meanwhile.
    """
    n_threads = torch.get_num_threads()
    if n_threads > (2 if takes_half else 1):
        yield AtOnce()
        return
    try:
        if n_threads == 2:
            torch.set_num_threads(1)
        with ThreadPoolExecutor(1, "beside", use_one_thread) as thread:
            yield thread
    finally:
        if n_threads == 2:
            torch.set_num_threads(2)


def use_one_thread() -> None:
    """Let PyTorch compute alone in the present thread."""
    torch.set_num_threads(1)
    torch.get_num_threads()  # the first call in a thread applies the number there
