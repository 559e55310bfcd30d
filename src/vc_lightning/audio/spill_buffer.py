"""Hold sound of any length: short in memory, long in temporary files that can be paged out."""

import contextlib
import math
import tempfile
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np

MAX_IN_MEMORY = 1 << 24  # numbers: 64 MiB, a quarter of an hour at 16 kHz
BLOCK = 1 << 20  # samples processed at once


class SpillBuffer:
    """Collects arrays of float32 into one along their first axis.

    Long ones go to an unnamed temporary file in the folder that TMPDIR names. It is deleted with
    the last array that uses it.
    """

    def __init__(self) -> None:
        self._pieces: list[np.ndarray] = []
        self._n_numbers = 0
        self._file: IO[bytes] | None = None

    def append(self, piece: np.ndarray) -> None:
        """Add an array (n, …).

        Raises:
            OSError: The temporary folder, which the error names, is full.
        """
        self._pieces.append(np.asarray(piece, dtype=np.float32))
        self._n_numbers += piece.size
        if self._n_numbers <= MAX_IN_MEMORY:
            return
        with _name_the_folder():
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 (outlives this)
            for held in self._pieces:
                self._file.write(np.ascontiguousarray(held).data)
        self._pieces = [self._pieces[-1][:0]]  # keeps the shape

    def array(self) -> np.ndarray:
        """Return everything as one array (n, …); nothing may be added afterwards."""
        if self._file is None:
            return np.concatenate(self._pieces)
        with _name_the_folder():
            self._file.flush()
        shape = self._pieces[0].shape[1:]
        length = self._n_numbers // math.prod(shape)
        array = np.memmap(self._file, np.float32, "r+", shape=(length, *shape))
        self._file.close()  # the array holds it open
        return array


@contextlib.contextmanager
def _name_the_folder() -> Iterator[None]:
    """Name the temporary folder in an OSError."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, tempfile.gettempdir()) from error


def collected(pieces: Iterable[np.ndarray]) -> np.ndarray:
    """Join arrays (n, …) along their first axis, see `SpillBuffer`."""
    buffer = SpillBuffer()
    for piece in pieces:
        buffer.append(piece)
    return buffer.array()


def blocks(wav: np.ndarray, length: int = BLOCK) -> Iterator[np.ndarray]:
    """Yield an array in parts of `length` along its first axis; the last may be shorter."""
    for start in range(0, len(wav), length):
        yield wav[start : start + length]
