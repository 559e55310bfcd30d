"""Checksums of weight files, which VC_LIGHTNING_CHECKSUMS may ask for, and of weights."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vc_lightning.common import resources
from vc_lightning.common.errors import InputError

VARIABLE = "VC_LIGHTNING_CHECKSUMS"
SHIPPED = "shipped"  # the list of the package, checkpoints/weights.json


def require_listed(path: Path) -> None:
    """Refuse a weight file that the list does not name; without a list, every file is accepted.

    The list is a JSON file `{NAME: {"sha256": HEX, …}, …}`. Only the digests count, so that a file
    may be renamed.

    Raises:
        InputError: The list cannot be read, or it has another digest for the file or none.
    """
    given = os.environ.get(VARIABLE)
    if not given:
        return
    listing = resources.WEIGHTS_LIST if given == SHIPPED else Path(given)
    digest = sha256(path)
    if digest not in _digests(listing):
        raise InputError(
            f"{path}: its SHA-256 is {digest}, which is not in {listing}; {VARIABLE} allows only "
            "files of that list: get the file again, or add its digest"
        )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digests(listing: Path) -> set[str]:
    try:
        entries = json.loads(listing.read_text(encoding="utf-8"))
        return {entry["sha256"].lower() for entry in entries.values()}
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{VARIABLE}={listing}: is not a list of weight files ({type(error).__name__}); give "
            f'{SHIPPED}, or a JSON file such as {{"a.safetensors": {{"sha256": "…"}}}}'
        ) from error


def identity(kind: str, state: Mapping[str, Tensor]) -> str:
    """Name a frozen network by its kind and a hash of its weights, such as "ge2e-1f2e3d4c"."""
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(key.encode())
        digest.update(value.float().cpu().numpy().tobytes())
    return f"{kind}-{digest.hexdigest()[:8]}"
