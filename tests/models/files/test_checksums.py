"""The list of weight files, and refusing files that it does not name."""

import json
import runpy

import pytest

from helpers import ROOT
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.models import checkpoints
from vc_lightning.models.files import checksums


def test_list_of_shipped_weights_is_current():
    script = runpy.run_path(str(ROOT / "scripts/weights/make_list.py"), run_name="imported")
    listed = json.loads(resources.WEIGHTS_LIST.read_text(encoding="utf-8"))
    assert listed == script["entries"](), "run python scripts/weights/make_list.py"
    for entry in listed.values():
        assert entry["licence"]
        assert entry["trained_on"]
        assert (ROOT / entry["script"]).is_file()


def test_without_a_list_every_file_loads(tiny_checkpoint, monkeypatch):
    monkeypatch.delenv(checksums.VARIABLE, raising=False)
    checkpoints.load_autovc(tiny_checkpoint)


def test_only_listed_files_load(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv(checksums.VARIABLE, "shipped")
    checkpoints.load_speaker_encoder()
    with pytest.raises(InputError, match=r"not in .*weights.json; VC_LIGHTNING_CHECKSUMS allows"):
        checkpoints.load_autovc(tiny_checkpoint)

    listing = tmp_path / "mine.json"
    digest = checksums.sha256(tiny_checkpoint).upper()
    listing.write_text(json.dumps({"tiny": {"sha256": digest}}), encoding="utf-8")
    monkeypatch.setenv(checksums.VARIABLE, str(listing))
    checkpoints.load_autovc(tiny_checkpoint)

    changed = bytearray(tiny_checkpoint.read_bytes())
    changed[-1] ^= 1
    other = tmp_path / tiny_checkpoint.name
    other.write_bytes(changed)
    with pytest.raises(InputError, match="its SHA-256 is "):
        checkpoints.load_autovc(other)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"a": 1}', '{"a": {"sha256": 1}}'])
def test_bad_list(content, tiny_checkpoint, tmp_path, monkeypatch):
    listing = tmp_path / "list.json"
    if content is not None:
        listing.write_text(content, encoding="utf-8")
    monkeypatch.setenv(checksums.VARIABLE, str(listing))
    with pytest.raises(InputError, match=r"list.json: is not a list of weight files"):
        checkpoints.load_autovc(tiny_checkpoint)
