"""Read, check, resample and write recordings."""

from pathlib import Path

import numpy as np

from vc_lightning.audio.files.decoding import (
    AUDIO_SUFFIXES,
    MAX_SAMPLE_RATE,
    MIN_SAMPLE_RATE,
    AudioStream,
    bounded_blocks,
    duration,
    open_audio,
    split_address,
    stamp,
)
from vc_lightning.audio.files.encoding import OUTPUT_SUFFIXES, save, written_suffixes
from vc_lightning.audio.resampling import resample
from vc_lightning.audio.spill_buffer import SpillBuffer, collected
from vc_lightning.common.errors import InputError

__all__ = [
    "AUDIO_SUFFIXES",
    "MAX_SAMPLE_RATE",
    "MIN_SAMPLE_RATE",
    "OUTPUT_SUFFIXES",
    "check",
    "duration",
    "load",
    "resample",
    "save",
    "split_address",
    "stamp",
    "written_suffixes",
]

CANCELLED = 1e-3  # of the loudest channel's power: if the mean has less, channels cancel each other
SILENCE_PEAK = 1e-4  # −80 dBFS: a recording below this has only noise


def load(path: Path | str, max_seconds: float | None = None) -> tuple[np.ndarray, int]:
    """Read a recording of any length and format as mono.

    Channels are averaged; where they cancel each other, the loudest one is taken.

    Args:
        path: A file that libsndfile or FFmpeg can read, such as a wav, a voice memo or a film.
            `film.mp4?stream=1` reads the second of its audio streams; see also `containers`.
        max_seconds: Longest recording that is read; None for a day.

    Returns:
        Samples, float32 (n,), and their rate in Hz.

    Raises:
        InputError: The file is missing, not audio, empty, silent, not finite, of a sample rate
            outside 8 to 192 kHz, or too long.
    """
    with open_audio(path) as stream:
        n_bytes = stamp(path)[0]
        wav, loudest = _read_mean(stream, n_bytes, max_seconds)
        if loudest is None:
            return check(wav), stream.sample_rate
    with open_audio(path) as stream:
        blocks_read = bounded_blocks(stream, n_bytes, max_seconds)
        return check(collected(block[:, loudest] for block in blocks_read)), stream.sample_rate


def _read_mean(
    stream: AudioStream, n_bytes: int, max_seconds: float | None
) -> tuple[np.ndarray, int | None]:
    """Return the mean (n,) of all channels, and the loudest channel if they cancel each other."""
    buffer = SpillBuffer()
    powers, power_of_mean = np.zeros(stream.n_channels), 0.0
    for block in bounded_blocks(stream, n_bytes, max_seconds):
        if stream.n_channels == 1:
            buffer.append(block[:, 0])
            continue
        mean = block.mean(axis=1)
        buffer.append(mean)
        powers += np.square(block, dtype=np.float64).sum(axis=0)
        power_of_mean += np.square(mean, dtype=np.float64).sum()
    cancelled = power_of_mean < CANCELLED * powers.max()
    return buffer.array(), int(powers.argmax()) if cancelled else None


def check(wav: np.ndarray) -> np.ndarray:
    """Return samples as float32 if they hold sound.

    Args:
        wav: Floating-point samples (n,).

    Raises:
        InputError: They have another shape or type, are empty, silent, or not finite.
    """
    wav = np.asarray(wav)
    if wav.ndim != 1:
        raise InputError(f"a recording has shape {wav.shape}; give mono samples (n,)")
    if not np.issubdtype(wav.dtype, np.floating):
        raise InputError(f"a recording is of type {wav.dtype}; give floats in -1..1")
    wav = wav.astype(np.float32, copy=False)
    if len(wav) == 0:
        raise InputError("the recording is empty (0 samples)")
    peak = max(wav.max(), -wav.min())  # NaN when one sample is
    if not np.isfinite(peak):
        raise InputError("the recording has NaN or infinite samples; export it again")
    if peak < SILENCE_PEAK:
        raise InputError(f"the recording is silent (peak {peak:.1e})")
    return wav
