"""The table of the results of conversions, whole and in parts."""

import csv
import os
from dataclasses import replace
from pathlib import Path

from vc_lightning.common.parts import Part
from vc_lightning.conversion.batch import results_table
from vc_lightning.conversion.batch.jobs import Job
from vc_lightning.conversion.batch.results_table import row_of, write_table

A, B, C = (Path(f"in/{name}.wav") for name in "abc")
OUT = Path("out")


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
    assert results_table.merge_tables(tmp_path, listed) == listed[:2]
    assert rows_of(whole) == {str(OUT): "9.000"}
    write_table(tmp_path, [replace(row_of(job), seconds=1.0) for job in first.block(listed)], first)
    assert results_table.merge_tables(tmp_path, listed) == []
    seconds = ["1.000"] * 2 + ["2.000"] * 3
    assert list(rows_of(whole).items()) == [(str(OUT), "9.000"), *zip(names, seconds, strict=True)]
    assert results_table.recorded_outputs(tmp_path, first) == {*names, str(OUT)}


def test_merges_newest_row(tmp_path):
    """A part that is run again replaces its rows; so does another division into parts."""
    job = Job(A, (C,), tmp_path / "0.wav")
    for seconds, part in enumerate([Part(1, 2), Part(1, 3), Part(1, 2)]):
        path = write_table(tmp_path, [replace(row_of(job), seconds=float(seconds))], part)
        os.utime(path, (seconds, seconds))
    results_table.merge_tables(tmp_path, [job])
    assert rows_of(tmp_path / "conversions.csv") == {str(job.output): "2.000"}


def test_counts_errors_of_merged_table(tmp_path):
    good, bad = (Job(A, (C,), tmp_path / name) for name in ("a.wav", "b.wav"))
    write_table(
        tmp_path,
        [replace(row_of(good), seconds=1.0), replace(row_of(bad), error="broken")],
        Part(1, 1),
    )
    results_table.merge_tables(tmp_path, [good, bad])
    assert results_table.count_errors(tmp_path, [good, bad]) == 1
    assert results_table.count_errors(tmp_path, [good]) == 0
    assert results_table.recorded_outputs(tmp_path, Part(1, 1)) == {str(good.output)}
