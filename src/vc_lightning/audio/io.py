"""Read, check, resample and write recordings."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import soundfile
import soxr

from vc_lightning.audio.spill_buffer import BLOCK, SpillBuffer, blocks
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import atomic_path, require_file

AUDIO_SUFFIXES = frozenset(
    [".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64"]
)
MIN_SAMPLE_RATE = 8_000
MAX_SAMPLE_RATE = 192_000
CANCELLED = 1e-3  # of the loudest channel's power: what is left where channels cancel each other
SILENCE_PEAK = 1e-4  # -80 dBFS: below this a recording holds nothing but its own noise floor

MAX_WAV_BYTES = 2**32 - 2**16  # RIFF counts bytes in 32 bits
PCM_BYTES = 2


def load(path: Path | str) -> tuple[np.ndarray, int]:
    """Reads any file that libsndfile knows as mono, however long.

    Channels are averaged; where they cancel each other the loudest one is taken.

    Returns: wav, float32 (n,), and its sample rate in Hz.
    Raises: InputError when the file is missing, not audio, empty, silent, not finite or of a
        sample rate outside 8 to 192 kHz.
    """
    path = require_file(path)
    try:
        with soundfile.SoundFile(path) as file:
            sample_rate = _usable_rate(file.samplerate, path)
            wav, loudest = _read_mean(file)
        if loudest is not None:
            with soundfile.SoundFile(path) as file:
                wav = _read_channel(file, loudest)
    except OSError as error:  # above all of a full disk, see `SpillBuffer`
        raise InputError(f"{path}: cannot be read ({error})") from error
    except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
        raise InputError(
            f"{path}: is not audio that libsndfile can read ({error}); export it as wav, flac, ogg "
            "or mp3"
        ) from error
    try:
        return check(wav), sample_rate
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _usable_rate(sample_rate: int, path: Path) -> int:
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise InputError(
            f"{path}: sample rate {sample_rate} Hz lies outside "
            f"{MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz; resample it first"
        )
    return sample_rate


def _read_blocks(file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Blocks (n, n_channels) to the end: a header may promise far more than the file holds."""
    length = max(1, BLOCK // file.channels)
    block = file.read(length, "float32", always_2d=True)
    yield block
    while len(block) == length:
        block = file.read(length, "float32", always_2d=True)
        yield block


def _read_mean(file: soundfile.SoundFile) -> tuple[np.ndarray, int | None]:
    """The mean (n,) of all channels, and the loudest channel where they cancel each other."""
    buffer = SpillBuffer()
    powers, power_of_mean = np.zeros(file.channels), 0.0
    for block in _read_blocks(file):
        if file.channels == 1:
            buffer.append(block[:, 0])
            continue
        mean = block.mean(axis=1)
        buffer.append(mean)
        powers += np.square(block, dtype=np.float64).sum(axis=0)
        power_of_mean += np.square(mean, dtype=np.float64).sum()
    cancelled = power_of_mean < CANCELLED * powers.max()
    return buffer.array(), int(powers.argmax()) if cancelled else None


def _read_channel(file: soundfile.SoundFile, channel: int) -> np.ndarray:
    buffer = SpillBuffer()
    for block in _read_blocks(file):
        buffer.append(block[:, channel])
    return buffer.array()


def check(wav: np.ndarray) -> np.ndarray:
    """Returns wav (n,) as float32 when it holds sound; raises InputError saying why not."""
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


def resample(wav: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Resamples wav (n,) from one rate in Hz to another (band-limited, by soxr)."""
    if from_rate == to_rate:
        return wav
    if len(wav) <= BLOCK:
        return soxr.resample(wav, from_rate, to_rate, quality="HQ")
    stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")
    buffer = SpillBuffer()
    for block in blocks(wav):
        buffer.append(stream.resample_chunk(block))
    buffer.append(stream.resample_chunk(wav[:0], last=True))
    return buffer.array()


def save(
    path: Path | str, wav: np.ndarray, sample_rate: int, strings: Mapping[str, str] | None = None
) -> Path:
    """Writes wav (n,) as 16-bit PCM, atomically; scaled down, never clipped, above full scale.

    Above 4 GiB the file becomes RF64.

    Args: strings, to be kept in it by libsndfile's names, such as {"title": "…"}.
    """
    scale = max([1.0, *(float(np.abs(block).max()) for block in blocks(wav))])
    container = (
        "FLAC"
        if Path(path).suffix == ".flac"
        else "WAV"
        if len(wav) * PCM_BYTES < MAX_WAV_BYTES
        else "RF64"
    )
    with (
        atomic_path(path) as temporary,
        soundfile.SoundFile(temporary, "w", sample_rate, 1, "PCM_16", format=container) as file,
    ):
        for name, text in (strings or {}).items():  # libsndfile wants them before the samples
            setattr(file, name, text)
        for block in blocks(wav):
            file.write(block / scale)
    return Path(path)
