"""Recordings inside the files of a data set, on this machine or on the Hugging Face Hub.

Their addresses may stand where a path may:

- `FOLDER/train-00000.parquet?row=17&column=audio`, a row of a Parquet file;
- `FOLDER/train-000000.tar?offset=1536&size=48213`, the bytes of a file in a tar;
- `hf://datasets/OWNER/NAME@REVISION/data/train-00000.parquet?row=17&column=audio`, the same there.

Only what is asked for is read: the row group of a row, the bytes of a file. PyArrow and
huggingface_hub come with the extra `corpora`.
"""

import bisect
import contextlib
import functools
import itertools
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from vc_lightning.common.errors import InputError, needs_extra
from vc_lightning.common.files import require_file

if TYPE_CHECKING:
    from pyarrow import ChunkedArray
    from pyarrow.parquet import ParquetFile

HUB = re.compile(r"hf:/{1,2}(?=datasets/)")  # Path merges the two slashes
ROW = re.compile(r"(?P<file>.+\.parquet)\?row=(?P<row>\d+)&column=(?P<column>.+)", re.DOTALL)
BYTES = re.compile(r"(?P<file>.+\.tar)\?offset=(?P<offset>\d+)&size=(?P<size>\d+)", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """A row of a Parquet file; `column` holds bytes, or a struct whose field `bytes` does."""

    file: str
    row: int
    column: str

    def __str__(self) -> str:
        """Format the address."""
        return f"{self.file}?row={self.row}&column={self.column}"

    def read(self) -> bytes:
        """Read the recording's bytes."""
        stamp = None if is_on_hub(self.file) else Path(self.file).stat().st_mtime_ns
        source = _Source(self.file, stamp, os.getpid())
        first_rows = _first_rows(source)
        if self.row >= first_rows[-1]:
            raise LookupError(f"it has {first_rows[-1]} rows, counted from 0")
        group = bisect.bisect_right(first_rows, self.row) - 1
        value = _column(source, group, self.column)[self.row - first_rows[group]].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise LookupError(f"its column {self.column} holds no sound in this row")
        return content


@dataclass(frozen=True)
class Span:
    """The bytes of a file in a tar that is not compressed."""

    file: str
    offset: int
    size: int

    def __str__(self) -> str:
        """Format the address."""
        return f"{self.file}?offset={self.offset}&size={self.size}"

    def read(self) -> bytes:
        """Read the recording's bytes."""
        with open_file(self.file) as file:
            file.seek(self.offset)
            return file.read(self.size)


def parse(path: Path | str) -> Row | Span | None:
    """Parse an address; return None for other paths, and for a file that really has such a name."""
    text = str(path)
    row, span = ROW.fullmatch(text), BYTES.fullmatch(text)
    with contextlib.suppress(OSError, ValueError):  # of a name that no file can have
        if Path(text).exists():
            return None
    if row is not None:
        return Row(with_two_slashes(row["file"]), int(row["row"]), row["column"])
    if span is not None:
        return Span(with_two_slashes(span["file"]), int(span["offset"]), int(span["size"]))
    return None


def is_on_hub(path: Path | str) -> bool:
    """Return whether a path is the address of a file of a data set on the Hub."""
    return HUB.match(str(path)) is not None


def with_two_slashes(path: Path | str) -> str:
    """Return an address on the Hub as its owner would write it; another path unchanged."""
    return HUB.sub("hf://", str(path))


def open_file(file: str) -> BinaryIO:
    """Open a file, on this machine or on the Hub, for random access.

    Raises:
        OSError: It is missing or cannot be reached.
        InputError: It is on the Hub, and huggingface_hub is not installed.
    """
    if not is_on_hub(file):
        return Path(file).open("rb")
    with needs_extra("a data set on the Hub", "corpora"):
        from huggingface_hub import HfFileSystem
    return HfFileSystem().open(file, "rb")


@contextlib.contextmanager
def extracted(path: Path | str, file: Path) -> Iterator[Path]:
    """Write the recording of an address to a temporary file, for what reads files.

    Args:
        path: The address, or another path.
        file: The file that holds the recording.

    Yields:
        The temporary file; `file` itself unless `path` is an address.

    Raises:
        InputError: The file cannot be read, or has no such row. The message does not name it.
    """
    address = parse(path)
    if address is None:
        yield file
        return
    if not is_on_hub(address.file):
        require_file(file)
    with tempfile.NamedTemporaryFile(prefix="recording-") as temporary:
        temporary.write(_bytes(address))
        temporary.flush()
        yield Path(temporary.name)


def _bytes(address: Row | Span) -> bytes:
    try:
        content = address.read()
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"cannot be read ({reason})") from error
    if isinstance(address, Span) and len(content) < address.size:
        raise InputError("the tar ends before; transfer it again")
    return content


@dataclass(frozen=True)
class _Source:
    """A Parquet file as a key of what was read from it.

    Attributes:
        file: Path or address.
        stamp: Its modification time, so that a changed file is read again; None on the Hub.
        pid: This process: a forked one must not use what another one has opened.
    """

    file: str
    stamp: int | None
    pid: int


@functools.lru_cache(maxsize=16)
def _first_rows(source: _Source) -> list[int]:
    """List the first row of each row group, then the number of rows."""
    with _parquet(source.file) as opened:
        metadata = opened.metadata
        sizes = (metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
        return list(itertools.accumulate(sizes, initial=0))


@functools.lru_cache(maxsize=1)  # recordings are read in order, and a row group may be large
def _column(source: _Source, group: int, column: str) -> "ChunkedArray":
    """Read a column of a row group."""
    with _parquet(source.file) as opened:
        if column not in opened.schema_arrow.names:
            raise LookupError(f"its columns are {', '.join(opened.schema_arrow.names)}")
        return opened.read_row_group(group, [column], use_threads=False).column(column)


@contextlib.contextmanager
def _parquet(file: str) -> Iterator["ParquetFile"]:
    with needs_extra("a Parquet file", "corpora"):
        from pyarrow.parquet import ParquetFile
    with open_file(file) as source, ParquetFile(source) as opened:
        yield opened
