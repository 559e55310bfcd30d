"""A few cases of fuzz.py, always the same."""

import functools
import random
from pathlib import Path

import pytest

from vc_lightning.commands import convert, evaluate  # noqa: F401  once, for all cases


@pytest.fixture(scope="module")
def fuzzing(tmp_path_factory):
    """The modules of the folder, and what their command lines need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        from fuzzing import audio, bench, damage, hostile, media, trials
    made = bench.make(tmp_path_factory.mktemp("bench"))
    return {
        "bench": made,
        "audio": audio,
        "damage": damage,
        "hostile": hostile,
        "media": media,
        "trials": trials,
    }


@pytest.fixture
def run(fuzzing, tmp_path):
    """Convert with a content for a key; return the verdict."""

    def run(name, key, content):
        def make(folder):
            (folder / "strange").write_bytes(content)
            return fuzzing["bench"].convert(**{key: folder / "strange"})

        trial = fuzzing["trials"].Trial(name, "convert", make)
        return fuzzing["trials"].run(trial, tmp_path / name, 2 * 2**30, 120)

    return run


def test_damaged_inputs(fuzzing, run):
    bench, damage = fuzzing["bench"], fuzzing["damage"]
    for number, key in enumerate(("source", "target", "ckpt")):
        whole = (bench.checkpoint if key == "ckpt" else bench.source).read_bytes()
        result = run(f"{key}{number}", key, damage.damaged(whole, random.Random(number)))
        assert not result.failed, result


def test_refuses_films_with_false_headers(fuzzing, run):
    contents = fuzzing["media"].hostile_files()
    for name in ("eighty million packets", "3000 streams", "a list of files", "damaged packets"):
        result = run(name, "source", contents[name])
        assert result.verdict == "refused", result


def test_refuses_hostile_weights(fuzzing, run):
    contents = dict(fuzzing["hostile"].files())
    for name in (
        "os.system in pickle 2",
        "exec in torch's format",
        "a header of 4611686018427387904 bytes",
    ):
        result = run(name, "ckpt", contents[name]())
        assert result.verdict == "refused", result


def test_trial_detects_failures(fuzzing, tmp_path):
    """Else a fuzz without failures would say nothing."""
    trials = fuzzing["trials"]
    verdict = functools.partial(trials._verdict, folder=tmp_path)
    (tmp_path / "here").mkdir()
    assert verdict(0, [], "") == "succeeded"
    assert verdict(2, ["error: no"], "") == "refused"
    assert verdict(2, ["error: no", "more"], "").startswith("2 lines")
    assert verdict(1, ["Traceback (most recent call last):", "KeyError"], "").startswith(
        "traceback"
    )
    assert verdict(-9, [], "") == "killed by SIGKILL"
    assert verdict(3, [], "") == "exit code 3"
    (tmp_path / "here" / ".half.wav").touch()
    assert verdict(0, [], "") == "left here/.half.wav behind"
    (tmp_path / "here" / trials.CANARY).touch()
    assert verdict(0, [], "") == "code was run"
