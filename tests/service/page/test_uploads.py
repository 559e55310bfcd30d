"""Whose the page's files are."""

import os

import pytest

from vc_lightning.common.errors import InputError
from vc_lightning.service.page.uploads import Uploads


def test_deletes_files_with_last_session(tmp_path):
    deleted = []  # what is told; the files are gone by then
    uploads = Uploads(
        tmp_path / "uploads",
        deleted=lambda paths: deleted.extend(p for p in paths if not p.exists()),
    )
    folder, foreign = uploads.new_folder(), tmp_path / "foreign.wav"
    shared, own = folder / "shared.wav", uploads.new_folder() / "own.wav"
    for path in (shared, own, foreign):
        path.touch()
    uploads.claim("anna", [shared, own, foreign, tmp_path / "uploads" / ".." / "foreign.wav"])
    uploads.claim("ben", [shared])
    assert uploads.is_open("anna")
    uploads.release("anna")
    assert not uploads.is_open("anna")
    assert (shared.exists(), own.parent.exists(), foreign.exists()) == (True, False, True)
    assert deleted == [own]
    uploads.release("ben")
    uploads.release("ben")
    assert (folder.exists(), foreign.exists()) == (False, True)


def test_deletes_parts_of_uploads(tmp_path):
    uploads = Uploads(tmp_path / "uploads")
    old, new, whole = uploads.folder / "old", uploads.folder / "new", uploads.new_folder() / "whole"
    for path in (old, new, whole):
        path.touch()
    for path in (old, whole):
        os.utime(path, (0, 0))
    uploads.delete_parts(60)
    assert (old.exists(), new.exists(), whole.exists()) == (False, True, True)
    uploads.delete_parts(0)
    assert (new.exists(), whole.exists()) == (False, True)


def test_refuses_other_files(tmp_path):
    example, foreign = tmp_path / "example.wav", tmp_path / "foreign.wav"
    uploads = Uploads(tmp_path / "uploads", [example])
    own, link = uploads.folder / "own.wav", uploads.folder / "link.wav"
    for path in (example, foreign, own):
        path.touch()
    link.symlink_to(foreign)
    assert uploads.require(str(own)) == own
    assert uploads.require(str(example)) == example
    refused = [str(foreign), str(link), str(uploads.folder), f"{uploads.folder}/../foreign.wav"]
    refused += ["https://example.org/a.wav", f"file://{own}", "", "\0", "x" * 10_000, None, 1, {}]
    for path in refused:
        with pytest.raises(InputError, match="only recordings that were uploaded here"):
            uploads.require(path)
