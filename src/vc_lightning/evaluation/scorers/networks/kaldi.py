"""Kaldi's log-mels (Povey et al. 2011), the input of CAM++."""

import functools

import numpy as np

from vc_lightning.evaluation.scorers.availability import SAMPLE_RATE

N_MELS = 80
WINDOW = 400  # samples, 25 ms
HOP = 160  # samples, 10 ms
N_FFT = 512
LOWEST_HZ = 20.0  # of the mel filters; the highest is half the rate
PRE_EMPHASIS = 0.97
POVEY_POWER = 0.85  # of the Hann window
FLOOR = float(np.finfo(np.float32).eps)


def fbank(wav: np.ndarray) -> np.ndarray:
    """Compute log-mels (80, T), float32, of whole windows only.

    Args:
        wav: The recording (n,) at 16 kHz in −1…1.
    """
    n_frames = max(0, 1 + (len(wav) - WINDOW) // HOP)
    if n_frames == 0:
        return np.zeros((N_MELS, 0), dtype=np.float32)
    samples = np.asarray(wav, dtype=np.float64)
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]  # (T, 400)
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    window = np.hanning(WINDOW) ** POVEY_POWER
    spectrum = np.fft.rfft((frames - PRE_EMPHASIS * before) * window, N_FFT)  # (T, 257)
    mel = np.square(np.abs(spectrum)) @ filters()
    return np.log(np.maximum(mel, FLOOR)).T.astype(np.float32)


@functools.cache
def filters() -> np.ndarray:
    """Return triangular filters (257, 80) that are linear on the mel scale."""
    lowest, highest = mel_of(np.array([LOWEST_HZ, SAMPLE_RATE / 2])).tolist()
    edges = np.linspace(lowest, highest, N_MELS + 2)
    bins = mel_of(np.arange(N_FFT // 2 + 1) * SAMPLE_RATE / N_FFT)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling))


def mel_of(hertz: np.ndarray) -> np.ndarray:
    """Convert frequencies to the mel scale of O'Shaughnessy (1987)."""
    return 1127.0 * np.log1p(hertz / 700.0)
