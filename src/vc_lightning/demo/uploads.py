"""Which session owns which file, so that files go when their owner leaves."""

import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path

from vc_lightning.common.errors import InputError


class Uploads:
    """Files of one folder and the sessions that use them.

    Two sessions that upload the same content share a file; it is deleted with the last of them.

    Args:
        folder: Where uploads and results lie. Nothing outside it is ever read or deleted.
        shared: More files that every session may use.
    """

    def __init__(self, folder: Path, shared: Iterable[Path] = ()):
        folder.mkdir(exist_ok=True)
        self.folder = folder.resolve()
        self._shared = {path.resolve() for path in shared}
        self._files: dict[str, set[Path]] = {}
        self._lock = threading.Lock()

    def new_folder(self) -> Path:
        """Returns a folder for one result, whose name nobody can guess."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def require(self, path: object) -> Path:
        """Returns a file that a request names, if it may.

        Args:
            path: What the request says.

        Raises:
            InputError: It is an address, another file of this computer, or deleted.
        """
        if isinstance(path, str) and "\0" not in path and len(path) < 2**12:
            resolved = Path(path).resolve()
            is_ours = resolved.is_relative_to(self.folder) or resolved in self._shared
            if is_ours and resolved.is_file():
                return Path(path)
        raise InputError("only recordings that were uploaded here can be used; upload it")

    def claim(self, session: str, paths: Iterable[Path]) -> None:
        """Keeps files for as long as a session lasts.

        Args:
            session: Name of the session.
            paths: Its files; those outside the folder are left alone.
        """
        own = {path for path in paths if path.resolve().is_relative_to(self.folder)}
        with self._lock:
            self._files.setdefault(session, set()).update(own)

    def release(self, session: str) -> None:
        """Deletes the files that only this session used.

        Args:
            session: Name of the session.
        """
        with self._lock:
            kept = set().union(*(v for name, v in self._files.items() if name != session))
            for path in self._files.pop(session, set()) - kept:
                path.unlink(missing_ok=True)
                if path.parent != self.folder and not any(path.parent.iterdir()):
                    path.parent.rmdir()
