"""The pace of live speech: what this computer computes in time."""

import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vc_lightning.common.errors import require_flag, require_within
from vc_lightning.conversion.live.stream import BLOCK_RANGE, VoiceStream

log = logging.getLogger(__name__)

SHORTEST_SECONDS = 0.064
LONGEST_SECONDS = 0.24
MOST_LOAD = 0.5  # share of a step's length that computing it may take
N_FIRST = 10  # steps that fill the context of the network; the first ones are slow
N_TIMED = 3  # steps after them


@dataclass(frozen=True)
class Pace:
    """How a stream converts.

    Attributes:
        block_seconds: Length of a step.
        listens: Whether the recogniser hears the sound of each step.
    """

    block_seconds: float
    listens: bool


def affordable(
    open_stream: Callable[[Pace], VoiceStream], block_seconds: float | None, listens: bool | None
) -> Pace:
    """Find the pace that keeps the most words, then the shortest, that this computer keeps.

    Args:
        open_stream: Opens a stream, which is spent on noise.
        block_seconds: Length of a step; None: the shortest, up to `LONGEST_SECONDS`, that takes
            half of its length to compute.
        listens: Whether the recogniser hears; None: if its steps take at most half of their length.

    Raises:
        InputError: A value is out of range.
    """
    require_pace("", block_seconds, listens)
    longest = LONGEST_SECONDS if block_seconds is None else block_seconds
    for asked in (True, False) if listens is None else (listens,):
        stream = open_stream(Pace(LONGEST_SECONDS, asked))
        needed = step_seconds(stream) / MOST_LOAD
        if needed <= longest:
            break
    if block_seconds is None:
        block_seconds = min(max(needed, SHORTEST_SECONDS), LONGEST_SECONDS)
    listener = "recogniser" if stream.listens else "live encoder"
    log.info("live speech in steps of %.0f ms, heard by the %s", 1000 * block_seconds, listener)
    return Pace(block_seconds, stream.listens)


def require_pace(section: str, block_seconds: object, listens: object) -> None:
    """Check what `affordable` is asked for by a section of the configuration, "" for none.

    Raises:
        InputError: A value is out of range.
    """
    if block_seconds is not None:
        require_within(*BLOCK_RANGE, section, block_seconds=block_seconds)
    if listens is not None:
        require_flag(f"{section}.listens" if section else "listens", listens)


def step_seconds(stream: VoiceStream) -> float:
    """Measure the computing time of a step of a stream, which is spent on noise.

    It depends little on the length of the step: the network hears the sound before it each time.
    """
    random = np.random.default_rng(0)
    seconds = []
    for _ in range(N_FIRST + N_TIMED):
        noise = random.normal(0, 0.01, stream.block_samples).astype(np.float32)
        began = time.perf_counter()
        stream.push(noise)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[-N_TIMED:])
