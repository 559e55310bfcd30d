"""Files and folders: checks before the work, and writing that leaves no half-written file."""

import contextlib
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from vc_lightning.common.errors import InputError


def expand_user(path: Path | str) -> Path:
    """Replace a leading `~` or `~name` by that user's home, unless the user is unknown."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def require_file(path: Path | str) -> Path:
    """Check that a path is a regular file that may be read.

    Returns:
        The path.

    Raises:
        InputError: It is missing, a folder, a device or not readable.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be opened ({error})") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: is a folder; name a file")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: is a device or pipe; name a file")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path}: may not be read; change its permissions")
    return path


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Write a file as a whole: yield a temporary path that replaces `path` on success.

    Args:
        path: The file; it stays unchanged if the block raises an exception.

    Yields:
        A temporary path in the same folder.

    Raises:
        OSError: The file cannot be written, for example on a full disk.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's 0600 would hide the file from a group
        temporary.replace(path)
    except SafetensorError as error:  # has the operating system's error in its text only
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def require_writable(folder: Path, key: str, value: object = None) -> Path:
    """Create a folder and write to it once, so that an unusable one fails before the work.

    Args:
        folder: The folder to write to.
        key: The config key that an error names.
        value: The value that an error names; None is `folder`.

    Returns:
        folder.

    Raises:
        InputError: The folder cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        shown = folder if value is None else value
        raise InputError(
            f"{key}={shown}: cannot be written ({error.strerror}); name another folder"
        ) from error
    return folder


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is not JSON in UTF-8.
    """
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: object) -> None:
    """Write a JSON file, whole or not at all, creating its folder when it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8")
