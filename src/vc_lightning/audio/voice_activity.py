"""Voice activity detection, and what depends on it: level, trimming and cuts at pauses."""

import itertools

import numpy as np
import webrtcvad

from vc_lightning.audio.io import resample
from vc_lightning.audio.spill_buffer import blocks
from vc_lightning.common.errors import InputError

MIN_SECONDS = 0.5  # a third of what the speaker encoder looks at
VAD_SAMPLE_RATE = 16_000
VAD_MODE = 3  # the most aggressive of WebRTC's four
VAD_WINDOW_MS = 30
VAD_WINDOW = VAD_WINDOW_MS * VAD_SAMPLE_RATE // 1000  # samples
WINDOWS_AT_ONCE = 1000  # that are looked at
VAD_AVERAGE_WINDOWS = 8
VAD_DILATION_WINDOWS = 7
VAD_LEVEL_DBFS = -30.0
INT16_MAX = 2**15 - 1


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
    reach = VAD_DILATION_WINDOWS // 2
    return np.convolve(np.round(average), np.ones(VAD_DILATION_WINDOWS))[reach:-reach] > 0


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
