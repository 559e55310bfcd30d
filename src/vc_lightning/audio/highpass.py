"""The Butterworth high-pass of the mels, for whole recordings and for streams.

A recording is filtered without `scipy.signal`, which takes 0.7 s to import: a fifth of a command.
"""

import functools

import numpy as np
import scipy  # which imports scipy.signal where it is first used

ORDER = 5
N_EXTENSION = 18  # samples added at both ends, as many as `scipy.signal.sosfiltfilt` adds
RINGING_FLOOR = 1e-12  # relative level below which the impulse response is ignored


def filter_zero_phase(wav: np.ndarray, sample_rate: int, cutoff_hz: float) -> np.ndarray:
    """Filter a recording forwards and backwards, so that no frequency is delayed.

    The values are those of `scipy.signal.sosfiltfilt` (a test compares them): both ends are
    extended by point reflection, and each pass starts in the steady state of its first sample. The
    filter turns a constant into 0, so that sample is simply subtracted.

    Args:
        wav: float32 or float64 (n,), n ≥ 1.
        sample_rate: In Hz.
        cutoff_hz: Frequency in Hz that each pass attenuates by 3 dB.

    Returns:
        float64 (n,).
    """
    wav = np.pad(wav, N_EXTENSION, mode="reflect", reflect_type="odd").astype(np.float64)
    response = _response(sample_rate, cutoff_hz)
    for _ in range(2):
        wav = _convolve(wav - wav[0], response)[::-1]
    return wav[N_EXTENSION:-N_EXTENSION]


class RunningHighpass:
    """The same filter, forwards only, for live sound.

    Args:
        sample_rate: In Hz.
        cutoff_hz: Frequency in Hz that the filter attenuates by 3 dB.
    """

    def __init__(self, sample_rate: int, cutoff_hz: float):
        self._sections = scipy.signal.butter(
            ORDER, cutoff_hz, "highpass", output="sos", fs=sample_rate
        )
        self._state = np.zeros((len(self._sections), 2))

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Filter the next samples (n,) -> float64 (n,)."""
        filtered, self._state = scipy.signal.sosfilt(self._sections, samples, zi=self._state)
        return filtered


def _convolve(wav: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Filter wav (n,) block by block; each block's ringing is added to the next one (overlap-add).

    Args:
        wav: The samples.
        response: A frequency response (b + 1,) whose impulse response is over after b samples.
    """
    n_block = len(response) - 1
    blocks = np.pad(wav, (0, -len(wav) % n_block)).reshape(-1, n_block)
    passed = np.fft.irfft(np.fft.rfft(blocks, 2 * n_block) * response)
    passed[1:, :n_block] += passed[:-1, n_block:]
    return passed[:, :n_block].reshape(-1)[: len(wav)]


@functools.cache
def _response(sample_rate: int, cutoff_hz: float) -> np.ndarray:
    """Compute the frequency response of one pass, on as many frequencies as its ringing needs."""
    order = np.arange(ORDER)
    poles = np.exp(1j * np.pi * (order + (ORDER + 1) / 2) / ORDER)  # of the analogue low-pass
    cutoff = np.tan(np.pi * cutoff_hz / sample_rate)  # on the axis of the bilinear transform
    radius = np.abs((1 + cutoff * poles) / (1 - cutoff * poles)).max()  # of the slowest pole
    n_block = 2 ** int(np.log(RINGING_FLOOR) / np.log(radius)).bit_length()
    s = 1j * np.tan(np.pi / 2 * np.arange(n_block + 1) / n_block) / cutoff
    return s**ORDER / np.prod([1 - pole * s for pole in poles], axis=0)
