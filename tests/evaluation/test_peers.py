"""benchmarks/peers.py on conversions of a peer whose scores are known."""

import importlib.util
import json
import shutil

import pytest

from helpers import ROOT


@pytest.fixture(scope="module")
def peers():
    spec = importlib.util.spec_from_file_location("peers", ROOT / "benchmarks" / "peers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def table(corpus, tmp_path):
    path = tmp_path / "pairs.tsv"
    rows = ["man/0.wav\twoman/0.wav|woman/1.wav", "woman/0.wav\tman/0.wav|man/1.wav"]
    lines = ["\t".join(f"{corpus}/{cell}" for cell in row.split("\t")) for row in rows]
    lines = [line.replace("|", f"|{corpus}/") for line in lines]
    path.write_text("\n".join(["source\ttarget", *lines]) + "\n")
    return path


def test_scores_a_folder_of_conversions(peers, table, corpus, tmp_path, capsys):
    peers.main(["list", str(table)])
    named = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [name for name, *_ in named] == ["000_man_to_woman", "001_woman_to_man"]
    assert [source for _, source, _ in named] == [f"{corpus}/man/0.wav", f"{corpus}/woman/0.wav"]
    folder, out = tmp_path / "perfect", tmp_path / "out"
    folder.mkdir()
    command = ["score", f"Perfect={folder}", str(table), "--output", str(out), "--scorers="]
    shutil.copy(corpus / "woman" / "1.wav", folder / "000_man_to_woman.wav")
    with pytest.raises(SystemExit) as stop:
        peers.main(command)
    assert stop.value.code == 2
    assert "001_woman_to_man.wav is missing" in capsys.readouterr().err
    shutil.copy(corpus / "woman" / "0.wav", folder / "001_woman_to_man.wav")  # not converted
    peers.main(command)
    pairs = json.loads((out / "report.json").read_text())["pairs"]
    assert pairs[0]["figures"]["ge2e/to_target"] == pytest.approx(1, abs=1e-5)
    assert [pair["figures"]["ge2e/nearer"] for pair in pairs] == [1, 0]
    assert not any(key.startswith("speed/") for key in pairs[0]["figures"])
    assert "| Perfect | all pairs |" in capsys.readouterr().out
