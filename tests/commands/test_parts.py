"""`part=` of the commands: parts of conversions and of features."""

import csv
import logging

import pytest

from helpers import composed
from vc_lightning.commands import convert


@pytest.fixture
def run_convert(tiny_checkpoint, corpus, tmp_path):
    """Converts three recordings of a man to a woman, with a tiny network."""

    def run(**settings):
        settings = {
            "source": corpus / "man",
            "target": corpus / "woman",
            "output": tmp_path / "out",
            "ckpt": tiny_checkpoint,
            "vocoder": "griffin_lim",
            "vocoder.n_iter": 1,
        } | settings
        convert.main(composed("convert", *(f"{k}={v}" for k, v in settings.items())))
        return settings["output"]

    return run


def rows(path):
    with path.open(newline="") as file:
        return {row["output"]: row for row in csv.DictReader(file)}


def test_parts_of_conversions_make_the_table_of_the_whole(run_convert, tmp_path, caplog):
    """The last one that finishes writes it; one that was killed goes on where it stopped."""
    caplog.set_level(logging.INFO)
    out = run_convert(part="2/2")
    assert sorted(path.name for path in out.iterdir()) == [
        *["1_to_woman.wav", "2_to_woman.wav", "parts"]
    ]
    assert "1 of 3 conversions of other parts are missing" in caplog.text
    # As if it had been killed after the last wav and before its row.
    part = out / "parts" / "conversions_2_of_2.csv"
    part.write_text("".join(part.read_text().splitlines(keepends=True)[:-1]))
    made = (out / "1_to_woman.wav").stat().st_mtime_ns
    caplog.clear()
    run_convert(part="2/2")
    assert "1 of 2 conversions are there already" in caplog.text
    assert (out / "1_to_woman.wav").stat().st_mtime_ns == made
    run_convert(part="1/2")
    assert "all 3 conversions are done" in caplog.text
    whole = run_convert(output=tmp_path / "whole")
    expected, merged = rows(whole / "conversions.csv"), rows(out / "conversions.csv")
    for (output, row), (other, same) in zip(expected.items(), merged.items(), strict=True):
        assert other == output.replace("/whole/", "/out/")
        for key in row.keys() - {"output", "real_time_factor"}:
            assert row[key] == same[key]


def test_merging_names_what_is_missing(run_convert, capsys):
    run_convert(part="1/3")
    with pytest.raises(SystemExit) as stop:
        run_convert(part="merge")
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "part=merge: 2 of 3 conversions of other parts are missing" in error
    assert "1_to_woman.wav first" in error


def test_merging_ends_with_the_exit_code_of_its_conversions(run_convert, corpus, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    sources = f"[{broken},{corpus}/man/0.wav]"
    run_convert(source=sources, part="2/2")
    for part in ("1/2", "merge"):
        with pytest.raises(SystemExit) as stop:
            run_convert(source=sources, part=part)
        assert stop.value.code == 1


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"part": "0/8"}, "part=0/8: give the part's number"),
        ({"part": "9/8"}, "part=9/8: give the part's number"),
        ({"part": "x"}, "part=x: give the part's number"),
        ({"part": "1/2", "source": "SOURCE", "output": "a.wav"}, "cannot be split"),
        ({"part": "1/2", "voices.list": "true"}, "split conversions only"),
    ],
)
def test_what_can_not_be_split_is_one_sentence(run_convert, corpus, capsys, settings, reason):
    source = {"source": corpus / "man" / "0.wav"} if "source" in settings else {}
    with pytest.raises(SystemExit) as stop:
        run_convert(**settings | source)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


def test_parts_of_features_fill_one_cache(run, tmp_path, caplog):
    """And nothing is left to compute once all parts are done."""
    caplog.set_level(logging.INFO)
    cache = f"data.cache_dir={tmp_path}/cache"
    for part in ("1/2", "2/2"):
        run(cache, f"part={part}")
        assert f"part {part}: features of 3 recordings, 0 are unusable" in caplog.text
    assert caplog.text.count("computing features of 3 of 3 recordings") == 2
    assert not (tmp_path / "run" / "checkpoints").exists()
    caplog.clear()
    run(cache, "data.check=true")
    assert "computing features" not in caplog.text
