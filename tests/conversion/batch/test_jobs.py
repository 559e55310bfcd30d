"""Which conversions are asked for, and what their files are called."""

from pathlib import Path

import pytest

from vc_lightning.common.errors import InputError
from vc_lightning.conversion.batch import jobs
from vc_lightning.conversion.batch.jobs import Job, matched, named

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
