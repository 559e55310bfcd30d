"""The folder of the requests' recordings, which outlives no server, not even a killed one."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, which keeps what a killed server leaves
    fcntl = None  # type: ignore[assignment]

PREFIX = "vc_lightning_service_"
LOCK = "in_use"  # a file that a living server has locked


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """Make a temporary folder and delete it at the end; first delete those of killed servers.

    Yields:
        The folder.
    """
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        folder = Path(name)
        with Path(folder, f".{LOCK}").open("w") as file:
            if _locked(file):  # only a locked file gets the name by which others find it
                Path(file.name).rename(folder / LOCK)
                for other in folder.parent.glob(f"{PREFIX}*/{LOCK}"):
                    if other.parent != folder:
                        _delete_if_left(other)
            yield folder


def _locked(file: IO[str]) -> bool:
    """Lock a file for as long as it is open; return whether that was possible."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has locked it, or the file system has no locks
        return False
    return True


def _delete_if_left(lock: Path) -> None:
    """Delete a folder of this user whose server is gone."""
    folder = lock.parent
    with contextlib.suppress(OSError):  # of another user, or just deleted
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            return
        with lock.open() as file:
            if _locked(file):
                shutil.rmtree(folder, ignore_errors=True)
