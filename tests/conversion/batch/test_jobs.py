"""Which conversions are asked for, what their files are called, and the table of results."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import pytest

from vc_lightning.common.errors import InputError
from vc_lightning.common.parts import Part
from vc_lightning.conversion.batch import jobs
from vc_lightning.conversion.batch.jobs import Job, matched, named, row_of, write_table

A, B, C = (Path(f"in/{name}.wav") for name in "abc")
OUT = Path("out")


def outputs(couples):
    return [job.output.name for job in named(couples, OUT)]


def test_matching_of_sources_and_targets():
    assert matched([A, B], [C], "one", False) == [(A, (C,)), (B, (C,))]
    assert matched([A], [B, C], "one", False) == [(A, (B, C))]
    assert matched([A, B], [B, C], "all", False) == [(A, (B,)), (A, (C,)), (B, (C,))]
    assert matched([A, B], [C, A], "aligned", False) == [(A, (C,)), (B, (A,))]
    assert matched([A, B], [C, A], "aligned", True) == [
        *[(A, (C,)), (B, (A,))],
        *[(C, (A,)), (A, (B,))],
    ]
    assert matched([A, B], [A, B], "all", True) == [(A, (B,)), (B, (A,))]


def test_refuses_unmatched_recordings():
    with pytest.raises(InputError, match="source names 2 recordings and target 1"):
        matched([A, B], [C], "aligned", False)
    with pytest.raises(InputError, match="bidirectional=true"):
        matched([A], [B], "one", True)
    with pytest.raises(InputError, match="are the same recording"):
        matched([A], [A], "all", False)


def test_output_names():
    assert outputs([(A, (B,)), (C, (B,)), (A, "Anna")]) == [
        *["a_to_b.wav", "c_to_b.wav", "a_to_Anna.wav"],
    ]
    assert outputs([(A, (Path("voices/ben/1.wav"), Path("voices/ben/2.wav")))]) == ["a_to_ben.wav"]
    assert named([(A, (B,))], OUT) == [Job(A, (B,), OUT / "a_to_b.wav")]


def test_output_names_of_same_file_names():
    x, y, z = Path("p/x/1.wav"), Path("p/y/1.wav"), Path("q/y/1.wav")
    assert outputs([(x, "V"), (y, "V")]) == ["x_1_to_V.wav", "y_1_to_V.wav"]
    assert outputs([(x, "V"), (y, "V"), (z, "V")]) == [
        *["x_1_to_V.wav", "p_y_1_to_V.wav", "q_y_1_to_V.wav"],
    ]
    assert outputs([(A, "V"), (A.with_suffix(".flac"), "V")]) == [
        "a_wav_to_V.wav",
        "a_flac_to_V.wav",
    ]
    with pytest.raises(InputError, match=r"a_to_b_to_c\.wav: two conversions would have this name"):
        named([(Path("a_to_b.wav"), (C,)), (A, (Path("b_to_c.wav"),))], OUT)


def test_jobs_of_table(tmp_path):
    table = tmp_path / "pairs.tsv"
    table.write_text("source\ttarget\tnote\na.wav\tb.wav | c.wav\t!\nd/e.wav\tAnna\t\n")
    assert jobs.from_table(table) == [
        (tmp_path / "a.wav", (tmp_path / "b.wav", tmp_path / "c.wav")),
        (tmp_path / "d/e.wav", (tmp_path / "Anna",)),
    ]
    table.write_text("source\ttarget\na.wav\t |\n")
    with pytest.raises(InputError, match=r"pairs\.tsv: line 2 names no source or no target"):
        jobs.from_table(table)
    with pytest.raises(InputError, match=r"^pairs=.*missing\.tsv: cannot be read"):
        jobs.from_table(tmp_path / "missing.tsv")


def test_results_table_keeps_earlier_rows(tmp_path):
    first, second = (Job(path, (C,), tmp_path / path.name) for path in (A, B))
    write_table(
        tmp_path,
        [replace(row_of(first), error="bad, very"), replace(row_of(second), seconds=1.23456)],
    )
    write_table(tmp_path, [replace(row_of(first), seconds=2.0, to_target=-0.5)])
    with (tmp_path / "conversions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["source"], row["seconds"], row["to_target"], row["error"]) for row in rows] == [
        *[(str(A), "2.000", "-0.500", ""), (str(B), "1.235", "", "")],
    ]
    assert list(rows[0]) == [
        *["output", "source", "target", "seconds", "before", "to_target", "to_source"],
        *["real_time_factor", "error"],
    ]


def test_replaces_foreign_table(tmp_path):
    (tmp_path / "conversions.csv").write_bytes(b"\xff\x00,;")
    write_table(tmp_path, [row_of(Job(A, "Anna", OUT))])
    assert (tmp_path / "conversions.csv").read_text().splitlines()[1] == f"{OUT},{A},Anna,,,,,,"


def rows_of(path):
    with path.open(newline="") as file:
        return {row["output"]: row["seconds"] for row in csv.DictReader(file)}


def test_merges_complete_parts(tmp_path):
    listed = [Job(A, (C,), tmp_path / f"{n}.wav") for n in range(5)]
    names = [str(job.output) for job in listed]
    whole, first, second = tmp_path / "conversions.csv", Part(1, 2), Part(2, 2)
    write_table(tmp_path, [replace(row_of(Job(A, "Anna", OUT)), seconds=9.0)])  # of an earlier run
    write_table(
        tmp_path, [replace(row_of(job), seconds=2.0) for job in second.block(listed)], second
    )
    assert jobs.merge_tables(tmp_path, listed) == listed[:2]
    assert rows_of(whole) == {str(OUT): "9.000"}
    write_table(tmp_path, [replace(row_of(job), seconds=1.0) for job in first.block(listed)], first)
    assert jobs.merge_tables(tmp_path, listed) == []
    seconds = ["1.000"] * 2 + ["2.000"] * 3
    assert list(rows_of(whole).items()) == [(str(OUT), "9.000"), *zip(names, seconds, strict=True)]
    assert jobs.recorded_outputs(tmp_path, first) == {*names, str(OUT)}


def test_merges_newest_row(tmp_path):
    """A part that is run again replaces its rows; so does another division into parts."""
    job = Job(A, (C,), tmp_path / "0.wav")
    for seconds, part in enumerate([Part(1, 2), Part(1, 3), Part(1, 2)]):
        path = write_table(tmp_path, [replace(row_of(job), seconds=float(seconds))], part)
        os.utime(path, (seconds, seconds))
    jobs.merge_tables(tmp_path, [job])
    assert rows_of(tmp_path / "conversions.csv") == {str(job.output): "2.000"}


def test_counts_errors_of_merged_table(tmp_path):
    good, bad = (Job(A, (C,), tmp_path / name) for name in ("a.wav", "b.wav"))
    write_table(
        tmp_path,
        [replace(row_of(good), seconds=1.0), replace(row_of(bad), error="broken")],
        Part(1, 1),
    )
    jobs.merge_tables(tmp_path, [good, bad])
    assert jobs.count_errors(tmp_path, [good, bad]) == 1
    assert jobs.count_errors(tmp_path, [good]) == 0
    assert jobs.recorded_outputs(tmp_path, Part(1, 1)) == {str(good.output)}
