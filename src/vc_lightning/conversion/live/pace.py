"""The length of a stream's steps: as short as this computer allows."""

import logging
import statistics
import time

import numpy as np

from vc_lightning.conversion.live.stream import VoiceStream

log = logging.getLogger(__name__)

SHORTEST_SECONDS = 0.064
LONGEST_SECONDS = 0.16
MOST_LOAD = 0.5  # share of a step's length that computing it may take
CONTEXT_SECONDS = 1.5  # of sound before the first step that is timed; the first ones are slow
N_TIMED = 5  # steps


def affordable_block(stream: VoiceStream) -> float:
    """Return the shortest length of a step, in seconds, that this computer computes in half of it.

    Computing a step takes about as long whatever its length: the network hears the sound before the
    step in each of them.

    Args:
        stream: A stream with steps of `SHORTEST_SECONDS`. It is spent on noise.
    """
    random = np.random.default_rng(0)

    def noise(n_samples: int) -> np.ndarray:
        return random.normal(0, 0.01, n_samples).astype(np.float32)

    stream.push(noise(round(CONTEXT_SECONDS * stream.sample_rate)))
    seconds = []
    for _ in range(N_TIMED):
        began = time.perf_counter()
        stream.push(noise(stream.block_samples))
        seconds.append(time.perf_counter() - began)
    needed = statistics.median(seconds) / MOST_LOAD
    if needed <= stream.block_seconds:
        return stream.block_seconds
    chosen = min(needed, LONGEST_SECONDS)
    log.info("this computer needs steps of %.0f ms, which delays live speech", 1000 * chosen)
    return chosen
