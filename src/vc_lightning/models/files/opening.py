"""Open weight files, also damaged and hostile ones; no code in them ever runs."""

import contextlib
import json
import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from vc_lightning.common.errors import InputError
from vc_lightning.models.files.checksums import require_listed

METADATA_KEY = "vc_lightning"  # of the header in our safetensors files
UNREADABLE = (  # exceptions of torch.load and safe_open for damaged and hostile files
    pickle.UnpicklingError,
    SafetensorError,
    struct.error,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


def content_of(path: Path) -> dict:
    """Read the tensors and settings in a file.

    Args:
        path: A safetensors file or a PyTorch checkpoint.

    Returns:
        The entries of a checkpoint; of a safetensors file `state`, its tensors, and `card`, the
        header that our files have, else None.

    Raises:
        InputError: The file is damaged, unsafe or no checkpoint.
    """
    require_listed(path)
    try:
        with path.open("rb") as file:
            magic = file.read(9)
        if magic[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return {"state": state, "card": json.loads(metadata.get(METADATA_KEY, "null"))}
        _require_unpacked(path)
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise InputError(
            f"{path}: cannot be read as a checkpoint; it is cut short, of another kind, or holds "
            f"code, which is never run ({type(error).__name__})"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a checkpoint")
    return content


def _require_unpacked(path: Path) -> None:
    """Raise ValueError for a compressed archive, which PyTorch never writes (a zip bomb)."""
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
            raise ValueError("it is compressed")


def require_undamaged(path: Path) -> None:
    """Raise InputError when a PyTorch file does not match its checksums, which PyTorch ignores."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except zipfile.BadZipFile:
        return  # not an archive; its content will be refused
    except UNREADABLE as error:
        damaged = type(error).__name__
    if damaged:
        raise InputError(
            f"{path}: is damaged ({damaged}); use a copy of it, or train from the start"
        )
