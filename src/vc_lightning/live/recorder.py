"""Record the input and the conversion in one stereo file."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import soundfile

from vc_lightning.common.files import atomic_path

log = logging.getLogger("live")

CHANNELS = 2
BYTES_PER_SAMPLE = 2
MAX_BYTES = 4 * 10**9  # of samples in a wav file, whose header counts them in 32 bits


class Recorder:
    """Write the input to the left channel and the conversion to the right one, as 16-bit PCM.

    Sample n of both channels belongs to the same moment of speech: the latency is not in the file.
    Samples above full scale are clipped. The context manager `recording` opens and closes the file.

    Args:
        file: An open stereo file.
    """

    def __init__(self, file: soundfile.SoundFile):
        self._file = file
        self._sides = [np.zeros(0, np.float32), np.zeros(0, np.float32)]
        self._n_written = 0
        self._is_full = False

    def write_input(self, samples: np.ndarray) -> None:
        """Append samples of the input, float (n,)."""
        self._write(0, samples)

    def write_output(self, samples: np.ndarray) -> None:
        """Append samples of the conversion, float (n,)."""
        self._write(1, samples)

    def finish(self) -> None:
        """Pad the shorter channel with silence and write the rest."""
        longest = max(map(len, self._sides))
        for side in (0, 1):
            self._write(side, np.zeros(longest - len(self._sides[side]), np.float32))

    def _write(self, side: int, samples: np.ndarray) -> None:
        if self._is_full:
            return
        samples = np.nan_to_num(samples.astype(np.float32), posinf=1, neginf=-1)
        self._sides[side] = np.concatenate([self._sides[side], samples.clip(-1, 1)])
        n_both = min(map(len, self._sides))
        if not n_both:
            return
        self._file.write(np.stack([one[:n_both] for one in self._sides], axis=1))
        self._sides = [one[n_both:] for one in self._sides]
        self._n_written += n_both
        if self._n_written * CHANNELS * BYTES_PER_SAMPLE > MAX_BYTES:
            self._is_full = True
            log.warning("the recording is full (4 GB); the conversion goes on without it")


@contextlib.contextmanager
def recording(path: Path, rate: int, strings: Mapping[str, str]) -> Iterator[Recorder]:
    """Record into a file that appears when the block ends, even if it ends with an error.

    Args:
        path: A wav file.
        rate: In Hz.
        strings: Metadata of the file, by libsndfile's names.

    Yields:
        The recorder that writes the file.
    """
    interruption: BaseException | None = None
    with (
        atomic_path(path) as temporary,
        soundfile.SoundFile(temporary, "w", rate, CHANNELS, "PCM_16", format="WAV") as file,
    ):
        for name, text in strings.items():  # libsndfile takes them only before the samples
            setattr(file, name, text)
        recorder = Recorder(file)
        try:
            yield recorder
        except BaseException as error:  # raised again when the file is complete
            interruption = error
        recorder.finish()
    if interruption is not None:
        raise interruption
