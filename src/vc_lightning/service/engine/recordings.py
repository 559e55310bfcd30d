"""Uploaded recordings: within limits, decoded and analyzed once, named without folders."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vc_lightning.audio import voice_activity
from vc_lightning.audio.files import io as audio
from vc_lightning.common.errors import InputError, require_within
from vc_lightning.common.files import require_file
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.recording import Recording, prefix_errors
from vc_lightning.conversion.voices.voice import VoiceSample

KEPT_SECONDS = 600  # of analyzed recordings; about 120 MB


@dataclass(frozen=True)
class RecordingLimits:
    """Largest size and duration of one recording.

    Attributes:
        max_seconds: Duration in seconds.
        max_megabytes: Size of the file in MB (10^6 bytes).

    Raises:
        InputError: A limit is out of range.
    """

    max_seconds: float
    max_megabytes: float

    def __post_init__(self) -> None:
        """Check that the limits are in range."""
        require_within(voice_activity.MIN_SECONDS, 1e6, "", max_seconds=self.max_seconds)
        require_within(0.01, 1e6, "", max_megabytes=self.max_megabytes)

    def analyzed(self, recording: Path, converter: VoiceConverter) -> Recording:
        """Decode a recording once, and analyze it.

        A megabyte can hold hours of silence: the duration is counted while the file is decoded.

        Args:
            recording: The file.
            converter: Converter whose sample rate and networks are used.

        Raises:
            InputError: It is too large, too long, no sound, or without speech. The message does
                not name its folder.
        """
        with hidden_folders([recording]):
            wav = self._decoded(recording, converter)
            with prefix_errors(recording):
                return converter.analyze(wav)

    def sample(self, recording: Path, converter: VoiceConverter) -> VoiceSample:
        """Decode a recording of a target's voice once, and analyze it; see `analyzed`."""
        with hidden_folders([recording]):
            wav = self._decoded(recording, converter)
            with prefix_errors(recording):
                return converter.sample(wav)

    def _decoded(self, recording: Path, converter: VoiceConverter) -> np.ndarray:
        require_file(recording)
        megabytes = recording.stat().st_size / 1e6
        if megabytes > self.max_megabytes:
            raise InputError(
                f"{recording}: has {megabytes:.1f} MB; give at most {self.max_megabytes:g} MB"
            )
        wav, sample_rate = audio.load(recording, self.max_seconds)
        return audio.resample(wav, sample_rate, converter.sample_rate)


class KeptRecordings:
    """Analyzed recordings of the page, so that each is decoded only once.

    The longest unused ones are dropped once all together are longer than `KEPT_SECONDS`.

    Args:
        limits: Limits of one recording.
    """

    def __init__(self, limits: RecordingLimits):
        self.limits = limits
        self._kept: OrderedDict[tuple[Path, str], Recording] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, recording: Path, converter: VoiceConverter) -> Recording:
        """Return an analyzed recording; see `RecordingLimits.analyzed`.

        Args:
            recording: The file, which never changes.
            converter: See there.
        """
        key = (recording, converter.checkpoint)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        analyzed = self.limits.analyzed(recording, converter)
        with self._lock:
            if not recording.exists():  # its page was closed meanwhile
                return analyzed
            self._kept[key] = analyzed
            while sum(kept.seconds for kept in self._kept.values()) > KEPT_SECONDS:
                self._kept.popitem(last=False)
        return analyzed

    def forget(self, recordings: Iterable[Path]) -> None:
        """Drop recordings whose files are deleted."""
        gone = set(recordings)
        with self._lock:
            for key in [key for key in self._kept if key[0] in gone]:
                del self._kept[key]


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
