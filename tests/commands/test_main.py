"""`python -m vc_lightning`: its commands, and the completion of shells."""

import re
import subprocess
import sys
import tomllib

import pytest

from helpers import ROOT
from vc_lightning import __main__ as program
from vc_lightning.commands.support import completion

SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


def run(*arguments):
    command = [sys.executable, "-m", "vc_lightning", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_commands_are_those_of_the_package():
    assert {f"vc-{name}" for name in program.COMMANDS} | {"vc-lightning"} == set(SCRIPTS)
    for name in program.COMMANDS:
        assert SCRIPTS[f"vc-{name}"] == f"vc_lightning.commands.{name}:run"


def test_help_lists_the_commands(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vc-lightning"])
    program.main()
    lines = capsys.readouterr().out.splitlines()
    listed = [line.split()[0] for line in lines if line.startswith("  ")]
    assert listed == [*program.COMMANDS, "completion"]


def test_unknown_command():
    result = run("conver")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: there is no command conver; did you mean convert?\n"


def test_arguments_reach_the_command():
    result = run("convert", "source=nowhere.wav", "target=nowhere.wav")
    assert result.returncode == 2
    assert result.stderr.startswith("error: target=nowhere.wav: there is no such file")


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """Complete the last word of a line in a real bash."""
    script = tmp_path_factory.mktemp("completion") / "script"
    script.write_text(completion.script(list(program.COMMANDS)), encoding="utf-8")
    code = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _vc_lightning; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )

    def completed(*words, cwd=ROOT):
        result = subprocess.run(
            ["bash", "-c", code, "bash", str(script), *words],
            capture_output=True,
            text=True,
            cwd=cwd,
            check=True,
        )
        assert result.stderr == ""
        return result.stdout.split()

    return completed


@pytest.mark.parametrize(
    "program_words", [["vc-train"], ["python", "train.py"], ["vc-lightning", "train"]]
)
def test_completion_of_keys_and_choices(complete, program_words):
    choices = {path.stem for path in (ROOT / "conf" / "logger").glob("*.yaml")}
    assert set(complete(*program_words, "logger=")) == {f"logger={name}" for name in choices}
    assert complete(*program_words, "trainer.max_step") == ["trainer.max_steps="]


def test_completion_of_commands_and_files(complete):
    assert complete("vc-lightning", "e") == ["evaluate", "export"]
    assert complete("vc-convert", "source=so", cwd=ROOT / "examples") == ["source=source.wav"]
    assert complete("python", "other") == []


def test_completed_words_are_typed_as_shown():
    for name in program.COMMANDS:
        assert all(re.fullmatch(r"[\w.]+=\w*", word) for word in completion.words(name))
