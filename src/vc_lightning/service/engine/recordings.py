"""The recordings of clients: within limits, decoded and analyzed once, named without folders."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vc_lightning.audio.files import io as audio
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import require_file
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.recording import Recording, prefix_errors
from vc_lightning.conversion.voices.voice import VoiceSample
from vc_lightning.service.limits import ServiceLimits

KEPT_SECONDS = 600  # of analyzed recordings; about 120 MB


class Recordings:
    """Reads and analyzes recordings, and keeps those of the page, so that each is decoded once.

    The longest unused ones are dropped once all together are longer than `KEPT_SECONDS`.
    """

    def __init__(self, limits: ServiceLimits):
        self._limits = limits
        self._kept: OrderedDict[tuple[Path, str], Recording] = OrderedDict()
        self._lock = threading.Lock()

    def analyzed(self, path: Path, converter: VoiceConverter) -> Recording:
        """Decode a recording once, and analyze it.

        Raises:
            InputError: It is too large, too long, no sound, or without speech. The message does
                not name its folder.
        """
        with self._read(path, converter) as wav:
            return converter.analyze(wav, embeds=True)

    def sample(self, path: Path, converter: VoiceConverter) -> VoiceSample:
        """Decode a recording of a target's voice once, and analyze it; see `analyzed`."""
        with self._read(path, converter) as wav:
            return converter.sample(wav)

    def kept(self, path: Path, converter: VoiceConverter) -> Recording:
        """Return an analyzed recording of the page, whose file never changes; see `analyzed`."""
        key = (path, converter.checkpoint)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        analyzed = self.analyzed(path, converter)
        with self._lock:
            if not path.exists():  # its page was closed meanwhile
                return analyzed
            self._kept[key] = analyzed
            while sum(kept.seconds for kept in self._kept.values()) > KEPT_SECONDS:
                self._kept.popitem(last=False)
        return analyzed

    def forget(self, paths: Iterable[Path]) -> None:
        """Drop recordings whose files are deleted."""
        gone = set(paths)
        with self._lock:
            for key in [key for key in self._kept if key[0] in gone]:
                del self._kept[key]

    @contextlib.contextmanager
    def _read(self, path: Path, converter: VoiceConverter) -> Iterator[np.ndarray]:
        """Decode a recording; an error of it, or of the block, names the file without its folder.

        A megabyte can hold hours of silence: the duration is counted while the file is decoded.
        """
        with hidden_folders([path]):
            megabytes = require_file(path).stat().st_size / 1e6
            most = self._limits.max_megabytes
            if megabytes > most:
                raise InputError(f"{path}: has {megabytes:.1f} MB; give at most {most:g} MB")
            wav, sample_rate = audio.load(path, self._limits.max_seconds)
            wav = audio.resample(wav, sample_rate, converter.sample_rate)
            with prefix_errors(path):
                yield wav


@contextlib.contextmanager
def hidden_folders(paths: Sequence[Path]) -> Iterator[None]:
    """Replace full paths by file names in an InputError that leaves the block.

    Args:
        paths: Paths that the error may name.
    """
    try:
        yield
    except InputError as error:
        sentence = str(error)
        for path in filter(lambda path: path.name, paths):  # "." and "/" have none
            sentence = sentence.replace(str(path), path.name)
        raise InputError(sentence) from None
