"""Limits on uploaded recordings, and errors that do not reveal the server's folders."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vc_lightning.audio import io as audio
from vc_lightning.audio import voice_activity
from vc_lightning.audio.decoding import bounded_blocks, open_audio
from vc_lightning.common.errors import InputError, require_within
from vc_lightning.common.files import require_file


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

    def check(self, recording: Path) -> float:
        """Check that a recording can be read and is within the limits.

        Args:
            recording: The file.

        Returns:
            Its duration in seconds.

        Raises:
            InputError: It is too large, too long or no sound. The message does not name its folder.
        """
        with hide_folders([recording]):
            require_file(recording)
            megabytes = recording.stat().st_size / 1e6
            if megabytes > self.max_megabytes:
                raise InputError(
                    f"{recording}: has {megabytes:.1f} MB; give at most {self.max_megabytes:g} MB"
                )
            # A megabyte can hold hours of silence: check the header, then the samples themselves.
            self._require_short(recording, audio.duration(recording) or 0.0)
            with open_audio(recording) as stream:
                n_frames = 0
                for block in bounded_blocks(stream, recording.stat().st_size):
                    n_frames += len(block)
                    self._require_short(recording, n_frames / stream.sample_rate)
            wav, sample_rate = audio.load(recording)
        return len(wav) / sample_rate

    def _require_short(self, recording: Path, seconds: float) -> None:
        if seconds > self.max_seconds:
            raise InputError(
                f"{recording}: lasts {seconds:.0f} s; give at most {self.max_seconds:g} s"
            )


@contextlib.contextmanager
def hide_folders(paths: Sequence[Path]) -> Iterator[None]:
    """Replace full paths by file names in an InputError that leaves the block.

    Args:
        paths: Paths that the error may name.
    """
    try:
        yield
    except InputError as error:
        raise InputError(without_folders(str(error), paths)) from None


def without_folders(sentence: str, paths: Sequence[Path]) -> str:
    """Replace full paths in a sentence by file names.

    Args:
        sentence: Any text.
        paths: Paths that it may name.
    """
    for path in paths:
        sentence = sentence.replace(str(path), path.name)
    return sentence
