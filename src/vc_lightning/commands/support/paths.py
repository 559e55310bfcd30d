"""Paths that a configuration names: one file, several files, a file or folder to write to."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from vc_lightning.audio.files.decoding import AUDIO_SUFFIXES, split_address
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import expand_user, require_writable


def existing_paths(
    value: str | Sequence[str], key: str, suffixes: frozenset[str], kind: str = "audio"
) -> list[Path]:
    """Find the files that a key names.

    Args:
        value: A file, a list of files, a folder or a glob pattern.
        key: Name of the key, for error messages.
        suffixes: Lower-case suffixes of the files to find in a folder.
        kind: Name of such files, for error messages.

    Returns:
        The paths. A single file that does not exist is returned and refused by its reader.

    Raises:
        InputError: A folder or pattern matches no file, or a folder cannot be read.
    """
    if not isinstance(value, str):
        return [path for item in value for path in existing_paths(str(item), key, suffixes, kind)]
    path = expand_user(value)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:
        raise InputError(f"{key}={value}: cannot be opened ({error.strerror})") from error
    if is_folder:
        if not os.access(path, os.R_OK | os.X_OK):
            raise InputError(f"{key}={value}: the folder may not be read; change its permissions")
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
        if not found:
            raise InputError(f"{key}={value}: the folder holds no {kind}; name another folder")
        return found
    if exists or split_address(path)[1] is not None or not re.search(r"[*?\[]", value):
        return [path]  # the reader reports a missing file
    anchor = Path(path.anchor) if path.anchor else Path()
    found = sorted(p for p in anchor.glob(str(path.relative_to(path.anchor))) if p.is_file())
    if not found:
        raise InputError(f"{key}={value}: no file is named like that")
    return found


def single_path(value: object, key: str) -> Path:
    """Return the single path that a key names, with `~` expanded.

    Args:
        value: The key's value.
        key: Name of the key, for error messages.

    Raises:
        InputError: The value is empty or not text.
    """
    if not isinstance(value, str) or not value:
        raise InputError(f"{key}={'' if value is None else value}: name one file")
    return expand_user(value)


def writable_folder(value: object, key: str) -> Path:
    """Create an output folder and check that it is writable before any work starts.

    Args:
        value: The key's value.
        key: Name of the key, for error messages.

    Raises:
        InputError: The path names an audio file or cannot be written.
    """
    folder = expand_user(str(value))
    if folder.suffix.lower() in AUDIO_SUFFIXES and not folder.is_dir():
        raise InputError(f"{key}={value}: several conversions need a folder; name one")
    return require_writable(folder, key, value)


def names_a_file(value: str) -> bool:
    """Return whether an output is the name of a file, not of a folder.

    Args:
        value: The value of a key. `talks.2024`, `a/` and existing folders are folders.
    """
    has_suffix = re.fullmatch(r"\.[A-Za-z]\w{1,4}", Path(value).suffix) is not None
    return has_suffix and not value.endswith(("/", os.sep)) and not _is_folder(value)


def _is_folder(value: str) -> bool:
    """Return whether a path is an existing folder whose name has no suffix of audio files."""
    path = expand_user(value)
    return path.is_dir() and path.suffix.lower() not in AUDIO_SUFFIXES


def writable_path(value: object, key: str, *suffixes: str) -> Path:
    """Check that an output file is writable before any work starts.

    Args:
        value: The key's value.
        key: Name of the key, for error messages.
        suffixes: The suffixes that the file may have.

    Returns:
        The path with symbolic links resolved; its folder exists.

    Raises:
        InputError: The path has another suffix, is not a regular file or cannot be written.
    """
    path = single_path(value, key).resolve()
    if path.suffix.lower() not in suffixes:
        listed = " or ".join(filter(None, [", ".join(suffixes[:-1]), suffixes[-1]]))
        raise InputError(f"{key}={value}: cannot be written; let the name end in {listed}")
    try:
        if path.is_dir():
            raise InputError(f"{key}={value}: is a folder; name a file")
        if path.exists() and not path.is_file():
            raise InputError(f"{key}={value}: is a device or pipe; name a file")
    except OSError as error:
        raise InputError(
            f"{key}={value}: cannot be written ({error.strerror}); name another place"
        ) from error
    require_writable(path.parent, key, value)
    return path
