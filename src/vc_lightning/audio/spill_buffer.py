"""Sound of any length: short in memory, long in temporary files, which the system may page out."""

import contextlib
import math
import tempfile
from collections.abc import Iterator

import numpy as np

MAX_IN_MEMORY = 1 << 24  # numbers: 64 MiB, a quarter of an hour at 16 kHz
BLOCK = 1 << 20  # samples that are looked at in one go


class SpillBuffer:
    """Collects pieces of float32 along their first axis into one array.

    What is long goes to a temporary file in the folder that TMPDIR names, without a name of its
    own there: it is gone with the last array that shows it.
    """

    def __init__(self) -> None:
        self._pieces: list[np.ndarray] = []
        self._n_numbers = 0
        self._file = None

    def append(self, piece: np.ndarray) -> None:
        """Adds a piece (n, …); OSError naming the folder when there is no space for it."""
        self._pieces.append(np.asarray(piece, dtype=np.float32))
        self._n_numbers += piece.size
        if self._n_numbers <= MAX_IN_MEMORY:
            return
        with _naming_the_folder():
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 (outlives this)
            for held in self._pieces:
                self._file.write(np.ascontiguousarray(held).data)
        self._pieces = [self._pieces[-1][:0]]  # keeps the shape

    def array(self) -> np.ndarray:
        """All pieces in a row (n, …); nothing may be added after it."""
        if self._file is None:
            return np.concatenate(self._pieces)
        with _naming_the_folder():
            self._file.flush()
        shape = self._pieces[0].shape[1:]
        length = self._n_numbers // math.prod(shape)
        array = np.memmap(self._file, np.float32, "r+", shape=(length, *shape))
        self._file.close()  # the array holds it open
        return array


@contextlib.contextmanager
def _naming_the_folder() -> Iterator[None]:
    """A full disk says which one, and so what TMPDIR should not be."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, tempfile.gettempdir()) from error


def blocks(wav: np.ndarray, length: int = BLOCK) -> Iterator[np.ndarray]:
    """Cuts an array along its first axis into stretches of `length`, the last of which is less."""
    for start in range(0, len(wav), length):
        yield wav[start : start + length]
