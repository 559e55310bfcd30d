"""Recordings: reading, writing, sample rate, loudness and voice activity."""

import contextlib
import itertools
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import scipy
import soundfile
import soxr
import webrtcvad

from vc_lightning.audio.spill_buffer import BLOCK, Tape, blocks
from vc_lightning.common.errors import InputError

AUDIO_SUFFIXES = frozenset(
    [".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64"]
)
MIN_SAMPLE_RATE = 8_000
MAX_SAMPLE_RATE = 192_000
CANCELLED = 1e-3  # of the loudest channel's power: what is left where channels cancel each other
MIN_SECONDS = 0.5  # a third of what the speaker encoder looks at
SILENCE_PEAK = 1e-4  # -80 dBFS: below this a recording holds nothing but its own noise floor

VAD_SAMPLE_RATE = 16_000
VAD_MODE = 3  # the most aggressive of WebRTC's four
VAD_WINDOW_MS = 30
VAD_WINDOW = VAD_WINDOW_MS * VAD_SAMPLE_RATE // 1000  # samples
WINDOWS_AT_ONCE = 1000  # that are looked at
VAD_AVERAGE_WINDOWS = 8
VAD_DILATION_WINDOWS = 7
VAD_LEVEL_DBFS = -30.0
INT16_MAX = 2**15 - 1
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
    except OSError as error:  # above all of a full disk, see `Tape`
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


def require_file(path: Path | str) -> Path:
    """The path of a file that can be opened; InputError for anything else that a path may be."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be opened ({error})") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: is a folder; name a file")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: is a device or pipe; name a file")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: may not be read; change its permissions")
    return path


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
    tape = Tape()
    powers, power_of_mean = np.zeros(file.channels), 0.0
    for block in _read_blocks(file):
        if file.channels == 1:
            tape.append(block[:, 0])
            continue
        mean = block.mean(axis=1)
        tape.append(mean)
        powers += np.square(block, dtype=np.float64).sum(axis=0)
        power_of_mean += np.square(mean, dtype=np.float64).sum()
    cancelled = power_of_mean < CANCELLED * powers.max()
    return tape.array(), int(powers.argmax()) if cancelled else None


def _read_channel(file: soundfile.SoundFile, channel: int) -> np.ndarray:
    tape = Tape()
    for block in _read_blocks(file):
        tape.append(block[:, channel])
    return tape.array()


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
    tape = Tape()
    for block in blocks(wav):
        tape.append(stream.resample_chunk(block))
    tape.append(stream.resample_chunk(wav[:0], last=True))
    return tape.array()


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yields a temporary path beside `path` that replaces it only when the block succeeds."""
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's 0600 would hide the file from a group
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save(
    path: Path | str, wav: np.ndarray, sample_rate: int, strings: Mapping[str, str] | None = None
) -> Path:
    """Writes wav (n,) as 16-bit PCM, atomically; scaled down, never clipped, above full scale.

    Above 4 GiB the file becomes RF64.

    Args: strings, to be kept in it by libsndfile's names, such as {"title": "…"}.
    """
    scale = max([1.0, *(float(np.abs(block).max()) for block in blocks(wav))])
    container = "WAV" if len(wav) * PCM_BYTES < MAX_WAV_BYTES else "RF64"
    with (
        atomic_path(path) as temporary,
        soundfile.SoundFile(temporary, "w", sample_rate, 1, "PCM_16", format=container) as file,
    ):
        for name, text in (strings or {}).items():  # libsndfile wants them before the samples
            setattr(file, name, text)
        for block in blocks(wav):
            file.write(block / scale)
    return Path(path)


def rms_dbfs(wav: np.ndarray) -> float:
    """Root mean square of wav in dB relative to full scale (a constant 1.0 has 0 dB)."""
    energy = sum(float(np.square(block, dtype=np.float64).sum()) for block in blocks(wav))
    return _decibels(energy / len(wav))


def _decibels(power: float) -> float:
    return float(10 * np.log10(power + 1e-20))


def voiced_mask(wav: np.ndarray) -> np.ndarray:
    """Marks speech by WebRTC's detector, smoothed and widened as GE2E's pipeline does it.

    Quiet recordings are first raised to -30 dBFS. Flags of 30 ms windows are averaged over 8
    windows, rounded and dilated by 7 (Resemblyzer 0.1.4, `trim_long_silences`).

    Args: wav, float32 (n,) at 16 kHz.
    Returns: bool (m,), m = n rounded down to whole windows.
    """
    return np.repeat(_voiced_windows(wav, _raise_db(wav, VAD_LEVEL_DBFS)), VAD_WINDOW)


def _voiced_windows(wav: np.ndarray, decibels: float) -> np.ndarray:
    """The same for wav amplified by some dB, one flag a window."""
    vad = webrtcvad.Vad(VAD_MODE)
    flags = []
    for windows in blocks(_windows(wav), WINDOWS_AT_ONCE):
        pcm = np.round(amplify(windows, decibels) * INT16_MAX)
        pcm = np.clip(pcm, -INT16_MAX, INT16_MAX).astype("<i2")
        flags += [vad.is_speech(window.tobytes(), VAD_SAMPLE_RATE) for window in pcm]
    if not flags:
        return np.zeros(0, dtype=bool)
    # An even-length average: three windows of the past and four of the future.
    padded = np.pad(np.asarray(flags, dtype=np.float64), (VAD_AVERAGE_WINDOWS - 1) // 2)
    padded = np.append(padded, 0.0)
    average = np.convolve(padded, np.ones(VAD_AVERAGE_WINDOWS), "valid") / VAD_AVERAGE_WINDOWS
    return scipy.ndimage.binary_dilation(
        np.round(average).astype(bool), np.ones(VAD_DILATION_WINDOWS)
    )


def amplify(wav: np.ndarray, decibels: float) -> np.ndarray:
    """Scales wav by a gain in dB."""
    return wav * np.float32(10 ** (decibels / 20))


def raise_level(wav: np.ndarray, dbfs: float) -> np.ndarray:
    """Scales wav so that its RMS is at least `dbfs`; louder recordings stay as they are."""
    return amplify(wav, _raise_db(wav, dbfs))


def _raise_db(wav: np.ndarray, dbfs: float) -> float:
    return max(0.0, dbfs - rms_dbfs(wav))


def speech_mask(wav: np.ndarray) -> np.ndarray:
    """Like `voiced_mask` for wav (n,) at 16 kHz of any loudness, heard at -30 dBFS."""
    return np.repeat(speech_windows(wav), VAD_WINDOW)


def speech_windows(wav: np.ndarray) -> np.ndarray:
    """`speech_mask`, one flag for every 30 ms."""
    return _voiced_windows(wav, VAD_LEVEL_DBFS - rms_dbfs(wav))


def trim_silences(wav: np.ndarray) -> np.ndarray:
    """Cuts long pauses out of wav (n,) at 16 kHz and raises it to at least -30 dBFS."""
    mask = voiced_mask(wav)
    return raise_level(wav, VAD_LEVEL_DBFS)[: len(mask)][mask]


def level(wav: np.ndarray, sample_rate: int, dbfs: float) -> np.ndarray:
    """Brings the RMS over the voiced part of wav (n,) to `dbfs`, without clipping.

    Raises: InputError when it is too short or the detector finds no speech.
    """
    return amplify(wav, level_gain(wav, sample_rate, dbfs))


def level_gain(wav: np.ndarray, sample_rate: int, dbfs: float) -> float:
    """The gain in dB with which `level` does so.

    The detector hears every recording at the same level, so that the result does not depend on
    how loud the recording was.
    """
    seconds = len(wav) / sample_rate
    if seconds < MIN_SECONDS:
        raise InputError(f"{seconds:.3f} s are too short; give at least {MIN_SECONDS} s of speech")
    wav16 = resample(wav, sample_rate, VAD_SAMPLE_RATE)
    voiced = speech_windows(wav16)
    if not voiced.any():
        raise InputError("no speech found in it by the voice activity detector")
    return dbfs - _decibels(window_energies(wav16)[voiced].mean() / VAD_WINDOW)


def window_energies(wav: np.ndarray) -> np.ndarray:
    """Sums of squares of whole windows of 30 ms of wav (n,) at 16 kHz."""
    stretches = blocks(_windows(wav), WINDOWS_AT_ONCE)
    sums = [np.square(windows, dtype=np.float64).sum(axis=1) for windows in stretches]
    return np.concatenate([np.zeros(0), *sums])


def _windows(wav: np.ndarray) -> np.ndarray:
    """The whole windows of wav (n,), (n // VAD_WINDOW, VAD_WINDOW)."""
    return wav[: len(wav) // VAD_WINDOW * VAD_WINDOW].reshape(-1, VAD_WINDOW)


def cut_at_pauses(wav: np.ndarray, sample_rate: int, max_seconds: float) -> list[tuple[int, int]]:
    """Divides a recording (n,) into pieces of max_seconds or less, in pauses where it can.

    Each cut lies in the middle of the longest pause of the second half of what a piece may hold,
    or, where nobody pauses, at the quietest moment there.

    Returns: the first sample of every piece and the one after its last.
    """
    if len(wav) <= max_seconds * sample_rate:
        return [(0, len(wav))]
    wav16 = resample(wav, sample_rate, VAD_SAMPLE_RATE)
    voiced = speech_windows(wav16)
    energies = window_energies(wav16)
    longest = int(max_seconds * 1000 / VAD_WINDOW_MS)
    cuts = [0]
    while len(voiced) - cuts[-1] > longest:
        low, high = cuts[-1] + longest // 2, cuts[-1] + longest
        edges = np.flatnonzero(np.diff(np.concatenate([[1], voiced[low:high], [1]]).astype(int)))
        pauses = edges.reshape(-1, 2)  # first window of each and the one after its last
        if len(pauses):
            start, stop = pauses[np.argmax(pauses[:, 1] - pauses[:, 0])]
            cuts.append(low + int(start + stop) // 2)
        else:
            cuts.append(low + int(np.argmin(energies[low:high])))
    samples = [round(cut * VAD_WINDOW * sample_rate / VAD_SAMPLE_RATE) for cut in cuts]
    return list(itertools.pairwise([*samples, len(wav)]))
