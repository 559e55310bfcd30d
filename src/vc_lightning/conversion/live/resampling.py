"""Resampler for live sound with little delay; the result does not depend on the block sizes."""

import math

import numpy as np

ZERO_CROSSINGS = 16  # of the sinc on each side, counted at the lower of the two rates
KAISER_BETA = 8.0  # stop band below -80 dB
ROLLOFF = 0.93  # the pass band's edge, as a share of half the lower rate
OUTPUTS_AT_ONCE = 4096  # so that a large block needs little memory
MAX_PHASES = 1000  # filters; for unusual rates, times are rounded to a thousandth of a sample


class StreamResampler:
    """Interpolate by a windowed sinc that needs about a millisecond of later input.

    `soxr.ResampleStream` is steeper, but returns its samples up to 37 ms late (48 to 16 kHz,
    quality HQ, measured), and live speech passes through two resamplers.

    Sample m of the output is the input at the time m / to_rate, so nothing is shifted in time.

    Args:
        from_rate: Rate of the input in Hz.
        to_rate: Rate of the output in Hz.

    Attributes:
        delay: Number of later input samples that an output sample needs; 0 for equal rates.
    """

    def __init__(self, from_rate: int, to_rate: int):
        divisor = math.gcd(from_rate, to_rate)
        self.up, self.down = to_rate // divisor, from_rate // divisor
        lower = min(1.0, to_rate / from_rate)  # the lower rate, in input samples
        self.delay = 0 if from_rate == to_rate else math.ceil(ZERO_CROSSINGS / lower)
        self._buffer = np.zeros(self.delay, np.float32)  # silence before the first sample
        self._first = -self.delay  # input index of the buffer's first sample
        self._next = 0  # index of the next output sample
        phases = min(self.up, MAX_PHASES)
        self._phases = phases
        offsets = np.arange(1 - self.delay, self.delay + 1)
        times = offsets - np.arange(phases + 1)[:, None] / phases  # (phases + 1, 2 * reach)
        window = np.i0(
            KAISER_BETA * np.sqrt(np.maximum(0, 1 - (times / max(1, self.delay)) ** 2))
        ) / np.i0(KAISER_BETA)
        cutoff = ROLLOFF * lower
        self._filters = (cutoff * np.sinc(cutoff * times) * window).astype(np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples (n,); return those that are complete, float32 (m,)."""
        if self.delay == 0:
            return samples
        pieces = []
        step = max(1, OUTPUTS_AT_ONCE * self.down // self.up)
        for start in range(0, len(samples), step):
            pieces.append(self._push(samples[start : start + step]))
        return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)

    def _push(self, samples: np.ndarray) -> np.ndarray:
        self._buffer = np.concatenate([self._buffer, samples])
        n_known = self._first + len(self._buffer)
        # Output m lies at input time m * down / up and needs the inputs up to floor() + reach.
        n_ready = max(self._next, -(-(n_known - self.delay) * self.up // self.down))
        if n_ready == self._next:
            return np.zeros(0, np.float32)
        positions = np.arange(self._next, n_ready, dtype=np.int64) * self.down
        whole, rest = np.divmod(positions, self.up)
        phase = np.rint(rest * (self._phases / self.up)).astype(np.int64)
        windows = np.lib.stride_tricks.sliding_window_view(self._buffer, 2 * self.delay)
        result = np.einsum(
            "mk,mk->m", windows[whole + 1 - self.delay - self._first], self._filters[phase]
        )
        self._next = n_ready
        keep = self._next * self.down // self.up + 1 - self.delay
        self._buffer = self._buffer[max(0, keep - self._first) :]
        self._first = max(self._first, keep)
        return result.astype(np.float32, copy=False)
