"""Whose the page's files are, so that they go when their people do."""

import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path


class Uploads:
    """Remembers which session uses which file of one folder.

    Two sessions that upload the same content share a file; it is deleted with the last of them.

    Args: folder, outside which nothing is ever deleted.
    """

    def __init__(self, folder: Path):
        folder.mkdir(exist_ok=True)
        self.folder = folder.resolve()
        self._files: dict[str, set[Path]] = {}
        self._lock = threading.Lock()

    def new_folder(self) -> Path:
        """A folder for one result, whose name nobody can guess."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def claim(self, session: str, paths: Iterable[Path]) -> None:
        """Keeps files for as long as a session lasts; those outside the folder are left alone."""
        own = {path for path in paths if path.resolve().is_relative_to(self.folder)}
        with self._lock:
            self._files.setdefault(session, set()).update(own)

    def release(self, session: str) -> None:
        """Deletes what only this session used."""
        with self._lock:
            kept = set().union(*(v for name, v in self._files.items() if name != session))
            for path in self._files.pop(session, set()) - kept:
                path.unlink(missing_ok=True)
                if path.parent != self.folder and not any(path.parent.iterdir()):
                    path.parent.rmdir()
