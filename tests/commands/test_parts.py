"""`part=` of the commands: parts of conversions, of evaluations and of features."""

import csv
import json
import logging

import pytest

from helpers import composed
from vc_lightning.commands import convert, evaluate, prepare


@pytest.fixture
def run_convert(tiny_checkpoint, corpus, tmp_path):
    """Convert three recordings of a man to a woman, with a tiny network."""

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


def test_merged_conversions_equal_whole(run_convert, tmp_path, caplog):
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


def test_merge_names_missing_parts(run_convert, capsys):
    run_convert(part="1/3")
    with pytest.raises(SystemExit) as stop:
        run_convert(part="merge")
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "part=merge: 2 of 3 conversions of other parts are missing" in error
    assert "1_to_woman.wav first" in error


def test_merge_exit_code(run_convert, corpus, tmp_path):
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
    ],
)
def test_refuses_invalid_parts(run_convert, corpus, capsys, settings, reason):
    source = {"source": corpus / "man" / "0.wav"} if "source" in settings else {}
    with pytest.raises(SystemExit) as stop:
        run_convert(**settings | source)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


def test_feature_parts_fill_one_cache(arguments, tmp_path, caplog):
    """And nothing is left to compute once all parts are done."""
    caplog.set_level(logging.INFO)

    def run(*more):
        cache = f"data.cache_dir={tmp_path}/cache"
        prepare.main(composed("prepare", *arguments(cache, *more)))

    for part in ("1/2", "2/2"):
        run("verb=features", f"part={part}")
        assert f"part {part}: features of 3 recordings, 0 are unusable" in caplog.text
    assert caplog.text.count("computing features of 3 of 3 recordings") == 2
    assert not (tmp_path / "run" / "checkpoints").exists()
    caplog.clear()
    run("verb=check")
    assert "computing features" not in caplog.text


@pytest.fixture
def run_evaluate(tiny_checkpoint, corpus, tmp_path):
    """Evaluate three pairs with a tiny network; no scorer is needed for voice and codes."""
    table = tmp_path / "pairs.tsv"
    rows = [
        *("man/0.wav\twoman/0.wav|woman/1.wav\tman/1.wav", "man/2.wav\twoman/0.wav|woman/1.wav\t"),
        "woman/2.wav\tman/0.wav|man/1.wav\twoman/1.wav",
    ]
    table.write_text("\n".join(["source\ttarget\tsource_reference", *rows]) + "\n")

    def run(**settings):
        settings = {
            "data.pairs": table,
            "data.dir": corpus,
            "scorers": "codes",
            "ckpt": tiny_checkpoint,
            "vocoder": "griffin_lim",
            "vocoder.n_iter": 1,
            "robustness": "true",
            "n_robustness": 1,
            "output": tmp_path / "out",
        } | settings
        evaluate.main(composed("evaluate", *(f"{k}={v}" for k, v in settings.items())))
        return settings["output"]

    return run


def without_times(content):
    """A report without the figures that differ from run to run."""
    if isinstance(content, dict):
        return {k: without_times(v) for k, v in content.items() if not k.startswith("speed/")}
    return list(map(without_times, content)) if isinstance(content, list) else content


def test_merged_evaluation_equals_whole(run_evaluate, tmp_path, caplog):
    """One that was killed goes on where it stopped; the last one writes the report."""
    caplog.set_level(logging.INFO)
    out = run_evaluate(part="2/2")
    assert not (out / "report.json").exists()
    assert "1 of 3 pairs of other parts are missing" in caplog.text
    made = {path: path.stat().st_mtime_ns for path in (out / "wavs").iterdir()}
    run_evaluate(part="2/2")
    assert "part 2/2: 0 pairs to do" in caplog.text
    run_evaluate(part="1/2")
    assert {path: path.stat().st_mtime_ns for path in made} == made
    whole = run_evaluate(output=tmp_path / "whole")
    expected, merged = (json.loads((f / "report.json").read_text()) for f in (whole, out))
    assert without_times(merged) == without_times(expected)
    assert merged["codes"]["n_speakers"] == 2
    assert len(merged["robustness"]) > 15
    speed = merged["figures"]["all"]["all pairs"]["speed/conversion"]
    assert (speed["n"], speed["mean"] > 0) == (3, True)
    names = [sorted(path.name for path in (f / "wavs").iterdir()) for f in (whole, out)]
    assert names[0] == names[1]
    assert len(list(out.glob("events.out.tfevents.*"))) == 1


def test_refuses_results_of_other_evaluation(run_evaluate, capsys):
    run_evaluate(part="1/3", robustness="false")
    for settings, reason in [
        ({"part": "merge", "robustness": "false"}, "2 of 3 pairs of other parts are missing"),
        ({"part": "2/3", "guidance": 0.5, "robustness": "false"}, "of other pairs or settings"),
        ({"part": "0/3"}, "part=0/3: give the part's number"),
        ({"part": "1/3", "output": "x/${now:%H}"}, "give output=FOLDER, the same for every part"),
        ({"output": "OUT"}, "holds files already; name a new folder"),
    ]:
        settings = {key: value for key, value in settings.items() if value != "OUT"}
        with pytest.raises(SystemExit) as stop:
            run_evaluate(**settings)
        assert stop.value.code == 2
        assert reason in capsys.readouterr().err
