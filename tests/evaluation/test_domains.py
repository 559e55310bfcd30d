"""Several manifests and tables of pairs in one evaluation."""

from pathlib import Path

import pytest

from vc_lightning.common.errors import InputError
from vc_lightning.evaluation import domains
from vc_lightning.evaluation.pairs import Pair


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/a/corpus/MANIFEST.tsv", "/a/studio/PAIRS.tsv"], ["corpus", "studio"]),
        (["/a/readers.tsv", "/a/studio/PAIRS.tsv"], ["readers", "studio"]),
        (["/a/x/MANIFEST.tsv", "/a/x/PAIRS.tsv"], ["x/MANIFEST.tsv", "x/PAIRS.tsv"]),
        (["/a/x/M.tsv", "/b/y/M.tsv"], ["x/M.tsv", "y/M.tsv"]),
        (["/a/x/M.tsv", "/b/x/M.tsv"], ["/a/x/M.tsv", "/b/x/M.tsv"]),
    ],
)
def test_shortest_distinct_names(paths, names):
    assert domains.names([Path(path) for path in paths]) == names


def test_name_of_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert domains.names([Path("PAIRS.tsv")]) == [tmp_path.name]


def test_refuses_duplicate_file(tmp_path):
    with pytest.raises(InputError, match=r"M\.tsv is listed twice"):
        domains.names([tmp_path / "M.tsv", tmp_path / "x" / ".." / "M.tsv"])


def pair(source_speaker, target_speaker, **groups):
    paths = [Path(name) for name in "abcd"]
    return Pair(paths[0], (paths[1],), *paths[2:], source_speaker, target_speaker, groups=groups)


def test_same_speaker_name_in_two_domains():
    listed = [("studio", [pair("ann", "bob", accent="Scots")]), ("phone", [pair("ann", "eve")])]
    first, second = domains.together(listed)
    assert list(first.groups.items()) == [("domain", "studio"), ("accent", "Scots")]
    assert second.groups == {"domain": "phone"}
    assert (first.source_speaker, first.target_speaker) == ("studio/ann", "bob")
    assert (second.source_speaker, second.target_speaker) == ("phone/ann", "eve")


def test_refuses_reserved_column():
    with pytest.raises(InputError, match=r"phone: .*the column domain is reserved"):
        domains.together([("studio", [pair("a", "b")]), ("phone", [pair("a", "b", domain="x")])])
