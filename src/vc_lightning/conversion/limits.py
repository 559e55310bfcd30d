"""Limits on recordings that strangers send, and errors that do not show where files lie."""

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
    """How large and long one recording may be.

    Attributes:
        max_seconds: Duration in seconds.
        max_megabytes: Size of the file in MB (10^6 bytes).

    Raises:
        InputError: A limit is not a sensible number.
    """

    max_seconds: float
    max_megabytes: float

    def __post_init__(self) -> None:
        """Checks the limits themselves."""
        require_within(voice_activity.MIN_SECONDS, 1e6, "", max_seconds=self.max_seconds)
        require_within(0.01, 1e6, "", max_megabytes=self.max_megabytes)

    def check(self, recording: Path) -> float:
        """Checks a recording.

        Args:
            recording: The file.

        Returns:
            Its duration in seconds.

        Raises:
            InputError: It is too large or too long, or no sound; the message has no folder.
        """
        with hide_folders([recording]):
            require_file(recording)
            megabytes = recording.stat().st_size / 1e6
            if megabytes > self.max_megabytes:
                raise InputError(
                    f"{recording}: has {megabytes:.1f} MB; give at most {self.max_megabytes:g} MB"
                )
            # Hours of silence pack into a megabyte: what the header says, then what is there.
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
    """Puts a path's last part where an InputError says all of it, which is nobody's business.

    Args:
        paths: Those that the error may name.
    """
    try:
        yield
    except InputError as error:
        raise InputError(without_folders(str(error), paths)) from None


def without_folders(sentence: str, paths: Sequence[Path]) -> str:
    """Shortens paths in a sentence to their last part.

    Args:
        sentence: Any text.
        paths: Those that it may name.
    """
    for path in paths:
        sentence = sentence.replace(str(path), path.name)
    return sentence
