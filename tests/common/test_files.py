"""Checks of files and folders, and writing them whole or not at all."""

import os

import pytest

from vc_lightning.common import files
from vc_lightning.common.errors import InputError


def test_require_writable_creates_empty_folder(tmp_path):
    folder = files.require_writable(tmp_path / "a" / "b", "output")
    assert folder == tmp_path / "a" / "b"
    assert list(folder.iterdir()) == []


def test_require_writable_error_names_key_and_value(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError, match=r"^output=~/x: cannot be written \(.+\); name another"):
        files.require_writable(blocked / "x", "output", "~/x")


def test_require_file_refuses_other_paths(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "is a device or pipe"),
        (tmp_path / "missing", "there is no such file"),
    ):
        with pytest.raises(InputError, match=reason):
            files.require_file(path)


def test_atomic_path_keeps_old_file_after_failure(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.atomic_path(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_json_round_trips_any_script(tmp_path):
    path = tmp_path / "folder" / "a.json"
    files.write_json(path, {"name": "Błażej 声", "values": [1, 2.5, None]})
    assert files.read_json(path) == {"name": "Błażej 声", "values": [1, 2.5, None]}
