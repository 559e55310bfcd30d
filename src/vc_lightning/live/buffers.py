"""Bounded buffers between a sound card and the thread that converts."""

import threading
from collections import deque

import numpy as np


class CaptureBuffer:
    """Holds up to `max_samples` of a microphone until they are read; drops the oldest when full.

    Attributes:
        n_dropped: Samples that were dropped.
        n_gaps: Number of reads before which samples were dropped.
    """

    def __init__(self, max_samples: int):
        self.max_samples = max_samples
        self.n_dropped = self.n_gaps = 0
        self._n_dropped_before = 0  # the last read
        self._pieces: deque[np.ndarray] = deque()
        self._n_held = 0
        self._changed = threading.Condition()

    def write(self, samples: np.ndarray) -> None:
        """Append float samples (n,), which are not copied."""
        with self._changed:
            self._pieces.append(samples)
            self._n_held += len(samples)
            while self._n_held > self.max_samples:
                dropped = len(self._pieces.popleft())
                self._n_held -= dropped
                self.n_dropped += dropped
            self._changed.notify()

    def read(self, timeout_seconds: float) -> np.ndarray:
        """Take all samples, float32 (n,); n = 0 if nothing came within the timeout."""
        with self._changed:
            self._changed.wait_for(lambda: self._pieces, timeout_seconds)
            pieces = [np.zeros(0, np.float32), *self._pieces]
            self._pieces.clear()
            self._n_held = 0
            self.n_gaps += self.n_dropped > self._n_dropped_before
            self._n_dropped_before = self.n_dropped
        return np.concatenate(pieces)


class PlaybackBuffer:
    """Holds samples until they are played; plays silence if they run out, and counts under-runs.

    Playback starts with a cushion of silence, also after an under-run, so that a step of the
    conversion may take a little longer than the one before.

    Args:
        cushion_samples: Length of the cushion in samples.
        max_samples: Maximum number of samples that are held; the oldest are dropped.

    Attributes:
        n_underruns: Number of times that the samples ran out while sound was coming in.
        n_dropped: Samples that were dropped because the device took them too slowly.
        n_read: Samples that the device took, silence included.
    """

    def __init__(self, cushion_samples: int, max_samples: int):
        self.cushion_samples = cushion_samples
        self.max_samples = max_samples
        self.n_underruns = self.n_dropped = self.n_read = 0
        self._samples = np.zeros(0, np.float32)
        self._is_playing = False
        self._is_ended = False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._samples)

    def write(self, samples: np.ndarray) -> None:
        """Append float32 samples (n,)."""
        if not len(samples):
            return
        with self._lock:
            if not self._is_playing:
                samples = np.concatenate([np.zeros(self.cushion_samples, np.float32), samples])
                self._is_playing = True
            held = np.concatenate([self._samples, samples])
            self._samples = held[-self.max_samples :]
            self.n_dropped += len(held) - len(self._samples)

    def read(self, n_samples: int) -> np.ndarray:
        """Take samples for the device, float32 (n_samples,): zeros after the last that is held."""
        with self._lock:
            taken, self._samples = np.split(self._samples, [n_samples])
            self.n_read += n_samples
            if self._is_playing and len(taken) < n_samples:
                self._is_playing = False
                self.n_underruns += not self._is_ended
        return np.pad(taken, (0, n_samples - len(taken)))

    def count_underrun(self) -> None:
        """Count an under-run that the device reports."""
        with self._lock:
            self.n_underruns += self._is_playing

    def end(self) -> None:
        """Note that no more sound will come; running out is no under-run then."""
        with self._lock:
            self._is_ended = True
