"""Voice activity detection, and its uses: level, trimming, and cuts at pauses."""

import itertools
from dataclasses import dataclass

import numpy as np
import webrtcvad

from vc_lightning.audio.resampling import resample
from vc_lightning.audio.spill_buffer import blocks
from vc_lightning.common.errors import InputError

MIN_SECONDS = 0.5  # a third of a partial of the speaker encoder
VAD_SAMPLE_RATE = 16_000
VAD_MODE = 3  # the most aggressive of WebRTC's four
VAD_WINDOW_MS = 30
VAD_WINDOW = VAD_WINDOW_MS * VAD_SAMPLE_RATE // 1000  # samples
WINDOWS_AT_ONCE = 1000
VAD_AVERAGE_WINDOWS = 8
VAD_DILATION_WINDOWS = 7
VAD_LEVEL_DBFS = -30.0
INT16_MAX = 2**15 - 1


@dataclass(frozen=True)
class Level:
    """The level of a recording's speech.

    Attributes:
        gain_db: Gain in dB that brings the speech to the wanted level.
        speech: Whether each window of 30 ms holds speech, bool (n_windows,).
    """

    gain_db: float
    speech: np.ndarray


def rms_dbfs(wav: np.ndarray) -> float:
    """Return the root mean square of samples (n,) in dB of full scale; a constant 1.0 has 0 dB."""
    energy = sum(float(np.square(block, dtype=np.float64).sum()) for block in blocks(wav))
    return _decibels(energy / len(wav))


def _decibels(power: float) -> float:
    return float(10 * np.log10(power + 1e-20))


def voiced_mask(wav: np.ndarray) -> np.ndarray:
    """Mark speech as the speaker encoder GE2E does it, with WebRTC's detector.

    Quiet recordings are first raised to −30 dBFS. Flags of 30 ms windows are averaged over 8
    windows, rounded and dilated by 7 (Resemblyzer 0.1.4, `trim_long_silences`).

    Args:
        wav: Samples, float32 (n,), at 16 kHz.

    Returns:
        Whether each sample is speech, bool (m,); m is n rounded down to whole windows.
    """
    return np.repeat(_voiced_windows(wav, _gain_for_detector(wav)), VAD_WINDOW)


def _gain_for_detector(wav: np.ndarray) -> float:
    """Return the gain in dB that raises samples (n,) to at least −30 dBFS."""
    return max(0.0, VAD_LEVEL_DBFS - rms_dbfs(wav))


def _voiced_windows(wav: np.ndarray, decibels: float) -> np.ndarray:
    """Return the flags of the windows of wav (n,) at 16 kHz, amplified by `decibels`."""
    vad = webrtcvad.Vad(VAD_MODE)
    flags = []
    for windows in blocks(_windows(wav), WINDOWS_AT_ONCE):
        pcm = int16(amplify(windows, decibels))
        flags += [vad.is_speech(window.tobytes(), VAD_SAMPLE_RATE) for window in pcm]
    if not flags:
        return np.zeros(0, dtype=bool)
    # An even-length average: three windows of the past and four of the future.
    padded = np.pad(np.asarray(flags, dtype=np.float64), (VAD_AVERAGE_WINDOWS - 1) // 2)
    padded = np.append(padded, 0.0)
    average = np.convolve(padded, np.ones(VAD_AVERAGE_WINDOWS), "valid") / VAD_AVERAGE_WINDOWS
    reach = VAD_DILATION_WINDOWS // 2
    return np.convolve(np.round(average), np.ones(VAD_DILATION_WINDOWS))[reach:-reach] > 0


def int16(wav: np.ndarray) -> np.ndarray:
    """Convert samples to the integers that WebRTC's detector takes; louder ones are clipped."""
    return np.round(wav * INT16_MAX).clip(-INT16_MAX, INT16_MAX).astype("<i2")


def amplify(wav: np.ndarray, decibels: float) -> np.ndarray:
    """Scale samples by a gain in dB."""
    return wav * np.float32(10 ** (decibels / 20))


def speech_windows(wav: np.ndarray) -> np.ndarray:
    """Mark the windows of 30 ms with speech in samples (n,) at 16 kHz, scaled to −30 dBFS."""
    return _voiced_windows(wav, VAD_LEVEL_DBFS - rms_dbfs(wav))


def trim_silences(wav: np.ndarray) -> np.ndarray:
    """Cut long pauses out of samples (n,) at 16 kHz and raise them to at least −30 dBFS."""
    mask = voiced_mask(wav)
    return amplify(wav, _gain_for_detector(wav))[: len(mask)][mask]


def level(wav: np.ndarray, sample_rate: int, dbfs: float) -> np.ndarray:
    """Bring the RMS of the speech in a recording to a level, without clipping.

    Args:
        wav: Samples (n,).
        sample_rate: In Hz.
        dbfs: The level in dB of full scale.

    Raises:
        InputError: The recording is too short, or the detector finds no speech.
    """
    return amplify(wav, measure_level(wav, sample_rate, dbfs).gain_db)


def measure_level(wav: np.ndarray, sample_rate: int, dbfs: float) -> Level:
    """Detect the speech in a recording and measure its level.

    The detector gets every recording at the same level, so that the result does not depend on how
    loud the recording is.

    Args:
        wav: Samples (n,).
        sample_rate: In Hz.
        dbfs: The wanted level of the speech, in dB of full scale.

    Raises:
        InputError: The recording is too short, or the detector finds no speech.
    """
    seconds = len(wav) / sample_rate
    if seconds < MIN_SECONDS:
        raise InputError(f"{seconds:.3f} s are too short; give at least {MIN_SECONDS} s of speech")
    wav16 = resample(wav, sample_rate, VAD_SAMPLE_RATE)
    voiced = speech_windows(wav16)
    if not voiced.any():
        raise InputError("no speech found by the voice activity detector")
    return Level(dbfs - _decibels(window_energies(wav16)[voiced].mean() / VAD_WINDOW), voiced)


def window_energies(wav: np.ndarray) -> np.ndarray:
    """Return the sums of squares of the whole windows of 30 ms of samples (n,) at 16 kHz."""
    stretches = blocks(_windows(wav), WINDOWS_AT_ONCE)
    sums = [np.square(windows, dtype=np.float64).sum(axis=1) for windows in stretches]
    return np.concatenate([np.zeros(0), *sums])


def _windows(wav: np.ndarray) -> np.ndarray:
    """Return the whole windows of wav (n,) as (n // VAD_WINDOW, VAD_WINDOW)."""
    return wav[: len(wav) // VAD_WINDOW * VAD_WINDOW].reshape(-1, VAD_WINDOW)


def cut_at_pauses(wav: np.ndarray, sample_rate: int, max_seconds: float) -> list[tuple[int, int]]:
    """Divide a recording into segments, at pauses if possible.

    A cut lies between half and all of `max_seconds` after the one before: in the middle of the
    longest pause there, or, without a pause, at the quietest window.

    Args:
        wav: Samples (n,).
        sample_rate: In Hz.
        max_seconds: Length that no segment exceeds.

    Returns:
        The first sample of every segment and the one after its last.
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
