"""Open recordings of any format as streams of blocks.

libsndfile reads wav, flac, ogg, mp3 and others; FFmpeg reads the rest (m4a, webm, films and
others). Memory use does not grow with the length of a recording.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from vc_lightning.audio.files import containers, ffmpeg
from vc_lightning.audio.spill_buffer import BLOCK
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import require_file

SNDFILE_SUFFIXES = frozenset(
    [".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".w64"]
)
SOUND_SUFFIXES = frozenset(
    [".m4a", ".m4b", ".aac", ".amr", ".awb", ".3gp", ".3g2", ".wma", ".webm", ".weba", ".mka"]
)
FILM_SUFFIXES = frozenset(
    [".mp4", ".m4v", ".mov", ".mkv", ".wmv", ".avi", ".flv", ".mpg", ".mpeg", ".mp2", ".ac3"]
)
AUDIO_SUFFIXES = SNDFILE_SUFFIXES | SOUND_SUFFIXES | FILM_SUFFIXES
MIN_SAMPLE_RATE = 8_000  # Hz
MAX_SAMPLE_RATE = 192_000
MAX_HOURS = 24
# A file that unpacks to more than both of these is not a recording: Opus has at most 100 samples
# per byte of speech. 2**28 samples are 93 minutes of 48 kHz.
ALWAYS_ALLOWED_SAMPLES = 2**28
MAX_SAMPLES_PER_BYTE = 1000


class SndfileAudio:
    """A file that libsndfile has opened, with the members of `ffmpeg.FFmpegAudio`."""

    def __init__(self, file: soundfile.SoundFile):
        self._file = file
        self.sample_rate = file.samplerate
        self.n_channels = file.channels
        self.seconds: float | None = file.frames / file.samplerate

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield blocks until the file ends; its header may promise far more than it holds."""
        length = max(1, BLOCK // self.n_channels)
        n_read = length
        while n_read == length:
            try:
                block = self._file.read(length, "float32", always_2d=True)
            except (soundfile.SoundFileError, RuntimeError, TypeError) as error:
                raise InputError(
                    f"is not audio that libsndfile can read ({error}); export it as wav, flac, ogg "
                    "or mp3"
                ) from error
            n_read = len(block)
            yield block


AudioStream = SndfileAudio | ffmpeg.FFmpegAudio


def split_address(path: Path | str) -> tuple[Path, int | None]:
    """Split `film.mp4?stream=1` into the file and the number of its audio stream.

    Args:
        path: A path, or a path followed by `?stream=` and a number, of which 0 is the first. If a
            file really has such a name, it is that file. An address inside a file of a data set
            (see `containers`) gives that file, and no stream.

    Returns:
        The file's path, and the stream's number or None.
    """
    address = containers.parse(path)
    if address is not None:
        return Path(address.file), None
    path = Path(path)
    match = re.fullmatch(r"(.+)\?stream=(\d{1,3})", path.name, re.DOTALL)
    if match is None:
        return path, None
    with contextlib.suppress(OSError, ValueError):  # of a name that no file can have
        if path.exists():
            return path, None
    return path.with_name(match[1]), int(match[2])


def stamp(path: Path | str) -> tuple[int, int]:
    """Return size in bytes and modification time in ns of a recording's file.

    Both are 0 for a file on the Hub, whose address holds its revision.

    Raises:
        OSError: There is no such file.
    """
    file = split_address(path)[0]
    if containers.is_on_hub(file):
        return 0, 0
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


@contextlib.contextmanager
def open_audio(path: Path | str) -> Iterator[AudioStream]:
    """Open a recording for reading.

    Args:
        path: A file, one audio stream of a file (see `split_address`), or an address inside a file
            of a data set (see `containers`).

    Yields:
        The stream.

    Raises:
        InputError: The file is missing, no audio, or of a sample rate outside 8 to 192 kHz. Errors
            raised inside the block get the path as well.
    """
    file, index = split_address(path)
    try:
        with contextlib.ExitStack() as stack:
            opened = stack.enter_context(containers.extracted(path, file))
            stream = _open(require_file(opened), index, stack)
            if not MIN_SAMPLE_RATE <= stream.sample_rate <= MAX_SAMPLE_RATE:
                raise InputError(
                    f"sample rate {stream.sample_rate} Hz lies outside {MIN_SAMPLE_RATE} to "
                    f"{MAX_SAMPLE_RATE} Hz; resample it first"
                )
            yield stream
    except InputError as error:
        message = str(error)
        raise InputError(
            message
            if message.startswith(f"{file}: ")
            else f"{containers.with_two_slashes(path)}: {message}"
        ) from None
    except OSError as error:  # mostly of a full disk, see `SpillBuffer`
        raise InputError(f"{path}: cannot be read ({error})") from error


def bounded_blocks(
    stream: AudioStream, n_bytes: int, max_seconds: float | None = None
) -> Iterator[np.ndarray]:
    """Yield a stream's blocks, unless it is longer than any recording.

    Args:
        stream: The stream.
        n_bytes: Size of its file.
        max_seconds: Longest stream that is read, by its header and by its samples; None for
            `MAX_HOURS`.

    Raises:
        InputError: It is too long, or unpacks to far more than the file's size.
    """
    _require_short(stream.seconds or 0.0, max_seconds)
    n_samples = 0  # of all channels
    most = max(ALWAYS_ALLOWED_SAMPLES, MAX_SAMPLES_PER_BYTE * n_bytes)
    longest = MAX_HOURS * 3600 * stream.sample_rate * stream.n_channels
    for block in stream.blocks():
        n_samples += block.size
        _require_short(n_samples / stream.n_channels / stream.sample_rate, max_seconds)
        if n_samples > longest:
            raise InputError(f"lasts more than {MAX_HOURS} hours; split it")
        if n_samples > most:
            raise InputError(
                f"unpacks to more than {MAX_SAMPLES_PER_BYTE} samples per byte, which no recording "
                "of speech does"
            )
        yield block


def _require_short(seconds: float, max_seconds: float | None) -> None:
    if max_seconds is not None and seconds > max_seconds:
        raise InputError(f"lasts {seconds:.0f} s; give at most {max_seconds:g} s")


def duration(path: Path | str) -> float | None:
    """Return the seconds that a recording's header promises; None where it promises none.

    Raises:
        InputError: The recording cannot be read.
    """
    with open_audio(path) as stream:
        return stream.seconds


def tags(path: Path | str) -> dict[str, str]:
    """Return the text tags of a recording, by lower-case names such as "title".

    Raises:
        InputError: The recording cannot be read.
    """
    file = require_file(split_address(path)[0])
    unreadable = soundfile.SoundFileError, OSError, RuntimeError, TypeError, ValueError
    with contextlib.suppress(*unreadable), soundfile.SoundFile(file) as opened:
        return opened.copy_metadata()
    try:
        return ffmpeg.tags(file)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _open(path: Path, index: int | None, stack: contextlib.ExitStack) -> AudioStream:
    """Open a file with libsndfile, or with FFmpeg if libsndfile cannot read it."""
    if index is None:
        with contextlib.suppress(soundfile.SoundFileError, RuntimeError, TypeError):
            return SndfileAudio(stack.enter_context(soundfile.SoundFile(path)))
    return stack.enter_context(ffmpeg.open_audio(path, index or 0))
