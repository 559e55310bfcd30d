"""A mark in the sound itself, which says that speech is synthetic and survives copies as MP3.

Spread spectrum in the spectrogram (after Kirovski & Malvar 2003, "Spread-spectrum watermarking of
audio signals"): tiles of a few bands and frames become louder or softer by `DECIBELS`, as a fixed
pattern of signs says that repeats about every second. A detector adds up all repetitions, compares
them with the pattern at every shift, and so finds the mark after cuts as well. The pattern is
public: the mark helps honest people to label their work, and anybody can remove or forge it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soxr

RATE = 16_000  # Hz, of the detector; the mark lies below 4.3 kHz
WINDOW_S, HOP_S = 0.064, 0.016
LOWEST_HZ, BAND_HZ, N_BANDS = 296.875, 93.75, 42
TILE_FRAMES, N_TILES = 4, 16  # frames of a tile, tiles of a repetition
DECIBELS = 1.5
SEED, N_DECOYS = 2026, 24  # of the pattern; other patterns, which show the chance level
THRESHOLD = 5.0  # of 166 recordings without the mark none had more than 3.6, see docs/ethics.md
RANGE_DB, CLIP_DB = 50.0, 8.0  # quieter bands do not count; limit of a band's deviation
NEAR_FRAMES, NEAR_BANDS = 20, 5  # that a band's level is compared with
BLOCK_FRAMES = 2048  # computed at a time


@dataclass(frozen=True)
class Detection:
    """What a detector found.

    Attributes:
        score: How far the pattern stands out, in standard deviations of other patterns.
        found: Whether the mark is there.
    """

    score: float

    @property
    def found(self) -> bool:
        return self.score >= THRESHOLD


def embed(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mark a recording.

    Args:
        wav: Samples, float32 (n,).
        sample_rate: Their rate in Hz, at least 8 800.

    Returns:
        The marked samples, float32 (n,).
    """
    size, hop = _sizes(sample_rate)
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    bands = _bands(np.fft.rfftfreq(size, 1 / sample_rate))
    signs = _pattern(SEED)
    padded = np.pad(wav.astype(np.float32), (size, size + hop))
    change = np.zeros_like(padded)
    weight = np.sum(window**2) / hop
    for first, frames in _framed(padded, size, hop):
        tiles = (first + np.arange(len(frames))) // TILE_FRAMES % N_TILES
        decibels = np.where(bands >= 0, signs.T[tiles][:, bands], 0)
        spectra = np.fft.rfft(frames * window) * (10 ** (DECIBELS * decibels / 20) - 1)
        for number, added in enumerate(np.fft.irfft(spectra, size) * window):
            at = (first + number) * hop
            change[at : at + size] += added / weight
    return (padded + change)[size : size + len(wav)]


def detect(wav: np.ndarray, sample_rate: int) -> Detection:
    """Look for the mark in a recording; six seconds of speech are enough, less may not be.

    Args:
        wav: Samples, float32 (n,).
        sample_rate: Their rate in Hz.
    """
    if sample_rate != RATE:
        wav = soxr.resample(wav, sample_rate, RATE)
    deviations = _deviations(wav)
    period = TILE_FRAMES * N_TILES
    padded = np.pad(deviations, ((0, 0), (0, -deviations.shape[1] % period)))
    summed = padded.reshape(N_BANDS, -1, period).sum(1)  # all repetitions, (N_BANDS, period)
    chance = np.std([_at_every_shift(summed, _pattern(SEED + 1 + n)) for n in range(N_DECOYS)])
    found = _at_every_shift(summed, _pattern(SEED)).max()
    return Detection(float(found / chance) if chance > 0 else 0.0)


def _deviations(wav: np.ndarray) -> np.ndarray:
    """Compute how much louder than its neighbours every band is, in dB (N_BANDS, T)."""
    size, hop = _sizes(RATE)
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    bands = _bands(np.fft.rfftfreq(size, 1 / RATE))
    inside = [np.flatnonzero(bands == band) for band in range(N_BANDS)]
    levels = []
    for _, frames in _framed(np.pad(wav.astype(np.float32), (size, size + hop)), size, hop):
        spectra = 20 * np.log10(np.abs(np.fft.rfft(frames * window)) + 1e-6)
        levels.append(np.stack([spectra[:, bins].mean(1) for bins in inside]))
    level = np.concatenate(levels, axis=1)
    heard = level > np.percentile(level, 95) - RANGE_DB
    deviation = level - _smooth(level, NEAR_FRAMES, 1)
    deviation -= _smooth(deviation, NEAR_BANDS, 0)
    return np.clip(deviation, -CLIP_DB, CLIP_DB) * heard


def _at_every_shift(summed: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Correlate the summed deviations with a pattern at every shift in time."""
    chips = np.repeat(signs, TILE_FRAMES, axis=1)
    chips = chips - chips.mean()
    product = np.fft.rfft(summed) * np.conj(np.fft.rfft(chips))
    return np.fft.irfft(product.sum(0), summed.shape[1])


def _framed(padded: np.ndarray, size: int, hop: int) -> Iterator[tuple[int, np.ndarray]]:
    """Give the frames block by block, with the number of the first one."""
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    for first in range(0, len(frames), BLOCK_FRAMES):
        yield first, frames[first : first + BLOCK_FRAMES]


def _pattern(seed: int) -> np.ndarray:
    """Return the signs of all tiles, (N_BANDS, N_TILES)."""
    return np.random.default_rng(seed).choice([-1.0, 1.0], (N_BANDS, N_TILES))


def _bands(frequencies: np.ndarray) -> np.ndarray:
    """Return the band of every frequency in Hz, −1 where it has none."""
    bands = np.floor((frequencies - LOWEST_HZ) / BAND_HZ).astype(int)
    return np.where((bands >= 0) & (bands < N_BANDS), bands, -1)


def _sizes(sample_rate: int) -> tuple[int, int]:
    """Return window and hop in samples."""
    return 2 * round(WINDOW_S * sample_rate / 2), round(HOP_S * sample_rate)


def _smooth(values: np.ndarray, width: int, axis: int) -> np.ndarray:
    """Average over neighbours; at the ends the last value stands for those beyond it."""
    before = width // 2
    pad = [(0, 0), (0, 0)]
    pad[axis] = (before + 1, width - before - 1)
    total = np.cumsum(np.pad(values, pad, mode="edge"), axis=axis)
    n = values.shape[axis]
    ends = np.take(total, np.arange(width, width + n), axis)
    return (ends - np.take(total, np.arange(n), axis)) / width
