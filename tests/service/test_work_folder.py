"""Recordings that a killed server left are deleted by the next one."""

import os
import signal
import tempfile

import pytest

pytest.importorskip("fcntl", reason="Windows keeps them")
from vc_lightning.service import work_folder


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def killed_server(place):
    """Leave a recording as a killed process does."""
    child = os.fork()
    if child == 0:
        with work_folder.work_folder() as folder:
            (folder / "source.wav").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (left,) = place.glob("*/source.wav")
    return left


def test_deletes_what_a_killed_server_left(place):
    left = killed_server(place)
    with work_folder.work_folder() as folder:
        assert folder.is_dir()
        assert not left.parent.exists()
    assert list(place.iterdir()) == []


def test_keeps_folders_of_living_servers(place):
    with work_folder.work_folder() as first:
        (first / "source.wav").touch()
        with work_folder.work_folder() as second:
            assert first != second
            assert (first / "source.wav").exists()
        assert (first / "source.wav").exists()
    assert list(place.iterdir()) == []


def test_keeps_what_others_own(place, monkeypatch):
    left = killed_server(place)
    (place / f"{work_folder.PREFIX}link").symlink_to(place)
    monkeypatch.setattr(os, "getuid", lambda: left.stat().st_uid + 1)
    with work_folder.work_folder():
        assert left.exists()
