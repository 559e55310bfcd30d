"""Change the sample rate of recordings of any length (band-limited, by soxr)."""

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from vc_lightning.audio.spill_buffer import BLOCK, blocks, collected


def resample(wav: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resample a recording.

    Args:
        wav: Samples (n,).
        from_rate: Their rate in Hz.
        to_rate: The wanted rate in Hz.

    Returns:
        Samples at the wanted rate; `wav` itself if the rates are equal.
    """
    if from_rate == to_rate:
        return wav
    if len(wav) <= BLOCK:
        return soxr.resample(wav, from_rate, to_rate, quality="HQ")
    return collected(resampled(blocks(wav), from_rate, to_rate))


def resampled(samples: Iterable[np.ndarray], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """Resample blocks (n,) of a recording one after the other, see `resample`."""
    if from_rate == to_rate:
        yield from samples
        return
    stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")
    for block in samples:
        yield stream.resample_chunk(block.astype(np.float32, copy=False))
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
