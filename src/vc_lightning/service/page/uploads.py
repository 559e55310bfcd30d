"""The files of every session, which are deleted when the session ends."""

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from vc_lightning.common.errors import InputError


class Uploads:
    """Records which session uses which files of a folder.

    Two sessions that upload the same content share a file; it is deleted with the last of them.

    Args:
        folder: Folder of uploads and results; no file outside it is read or deleted.
        shared: Further files that every session may use.
        deleted: Called with files that are deleted.
    """

    def __init__(
        self,
        folder: Path,
        shared: Iterable[Path] = (),
        deleted: Callable[[Iterable[Path]], object] = list,
    ):
        folder.mkdir(exist_ok=True)
        self.folder = folder.resolve()
        self._deleted = deleted
        self._shared = {path.resolve() for path in shared}
        self._files: dict[str | None, set[Path]] = {}
        self._lock = threading.Lock()

    def new_folder(self) -> Path:
        """Make a folder with an unguessable name for one result."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def n_bytes(self) -> int:
        """Count the bytes of all uploads and results."""
        total = 0
        for path in self.folder.rglob("*"):
            with contextlib.suppress(OSError):  # it was deleted meanwhile
                total += path.stat().st_size
        return total

    def delete_parts(self, seconds: float) -> None:
        """Delete the files of uploads that broke off, to which nothing was written for so long.

        Gradio moves whole ones into folders.
        """
        now = time.time()
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):  # it was deleted or moved meanwhile
                if path.is_file() and now - path.stat().st_mtime >= seconds:
                    path.unlink()

    def require(self, path: object) -> Path:
        """Return a file that a request names, if the request may use it.

        Raises:
            InputError: It is a URL, another file of this computer, or deleted.
        """
        if isinstance(path, str) and "\0" not in path and len(path) < 2**12:
            resolved = Path(path).resolve()
            is_ours = resolved.is_relative_to(self.folder) or resolved in self._shared
            if is_ours and resolved.is_file():
                return Path(path)
        raise InputError("only recordings that were uploaded here can be used; upload this one")

    def claim(self, session: str | None, paths: Iterable[Path]) -> None:
        """Keep files, other than those outside the folder, for as long as a session lasts."""
        own = {path for path in paths if path.resolve().is_relative_to(self.folder)}
        with self._lock:
            self._files.setdefault(session, set()).update(own)

    def is_open(self, session: str | None) -> bool:
        """Return whether a session keeps files, that is, claimed some and did not end."""
        with self._lock:
            return session in self._files

    def release(self, session: str | None) -> None:
        """Delete the files that only this session used."""
        with self._lock:
            kept = set().union(*(v for name, v in self._files.items() if name != session))
            gone = self._files.pop(session, set()) - kept
            for path in gone:
                path.unlink(missing_ok=True)
                if path.parent != self.folder:
                    with contextlib.suppress(OSError):  # it holds other files, or is gone
                        path.parent.rmdir()
            self._deleted(gone)
