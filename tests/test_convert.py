"""convert.py as a user runs it."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from conftest import ROOT, SOURCE, TARGET, composed, write_wav

from vc_lightning import audio
from vc_lightning.commands import convert


def command(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, ROOT / "convert.py", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture
def run(tiny_checkpoint, tmp_path):
    """Runs convert.py's job with a tiny network; returns the output's path."""

    def run(**settings):
        settings = {
            "source": SOURCE,
            "target": TARGET,
            "output": tmp_path / "out" / "conversion.wav",
            "ckpt": tiny_checkpoint,
            "vocoder": "griffin_lim",
            "vocoder.n_iter": 1,
        } | settings
        convert.main(composed("convert", *(f"{k}={v}" for k, v in settings.items())))
        return settings["output"]

    return run


def test_the_command_of_the_readme(tmp_path):
    """In another folder, so that nothing depends on where it is run."""
    result = command(f"source={SOURCE}", f"target={TARGET}", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    wav, rate = soundfile.read(tmp_path / "conversion.wav", dtype="int16")
    assert (rate, len(wav)) == (16_000, soundfile.info(SOURCE).frames)
    for word in ("to target", "to source", "before", "after", "real-time factor", "Griffin"):
        assert word in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["conversion.wav"]


def test_names_of_any_spelling(tmp_path):
    """Spaces, commas, =, quotes, brackets and other scripts, in every path of the command."""
    folder = tmp_path / "a, b = 'c' [d] {e} \"f\" ж"
    folder.mkdir()
    source = folder / "it's [1], x=2.wav"
    source.write_bytes(SOURCE.read_bytes())
    target = folder / "[t].wav"
    target.write_bytes(TARGET.read_bytes())
    output = folder / "ö, =(1).wav"
    result = command(f"source={source}", f"target={target}", f"output={output}")
    assert (result.returncode, result.stderr) == (0, "")
    assert output.is_file()


def test_targets_as_list_folder_and_glob_leave_one_out_as_the_judge(run, tmp_path, caplog):
    caplog.set_level("INFO")
    folder = tmp_path / "voices"
    folder.mkdir()
    wav, rate = audio.load(TARGET)
    for index in range(2):
        write_wav(folder / f"{index}.wav", wav[index * 60_000 : index * 60_000 + 60_000], rate)
    (folder / "notes.txt").write_text("no audio")
    outputs = [
        run(target=target).read_bytes()
        for target in (folder, f"{folder}/*.wav", f"[{folder}/0.wav,{folder}/1.wav]")
    ]
    assert outputs[0] == outputs[1] == outputs[2]
    assert f"(target: {folder}/1.wav, left out of the voice)" in caplog.messages
    assert outputs[0] == run(target=folder / "0.wav").read_bytes()


def test_also_writes_what_the_vocoder_alone_makes(run):
    output = run(also="'source,target'")
    names = {path.name for path in output.parent.iterdir()}
    assert names == {"conversion.wav", "conversion_source.wav", "conversion_target.wav"}
    copy = soundfile.info(output.parent / "conversion_target.wav")
    assert copy.frames == soundfile.info(TARGET).frames


def bad_wavs(folder):
    """One file for everything that must be refused, and what is said of it."""
    rng = np.random.default_rng(0)
    speech = audio.load(SOURCE)[0]
    wavs = {
        "empty": (np.zeros(0), "empty"),
        "silent": (np.zeros(16_000), "silent"),
        "nan": (np.where(np.arange(16_000) == 5, np.nan, 0.1), "NaN"),
        "inf": (np.where(np.arange(16_000) == 5, np.inf, 0.1), "infinite"),
        "noise": (0.01 * rng.standard_normal(32_000), "no speech"),
        "short": (speech[30_000:30_400], "too short"),
        "syllable": (speech[30_000:34_000], "too short|no speech"),
    }
    for name, (wav, _) in wavs.items():
        write_wav(folder / f"{name}.wav", wav, subtype="FLOAT")
    (folder / "text.wav").write_text("no sound")
    (folder / "folder.wav").mkdir()
    reasons = {name: reason for name, (_, reason) in wavs.items()}
    return reasons | {"text": "not audio", "folder": "no audio|folder", "missing": "no such file"}


@pytest.mark.parametrize("key", ["source", "target"])
def test_bad_recordings_are_one_sentence_and_code_2(run, tmp_path, capsys, key):
    for name, reason in bad_wavs(tmp_path).items():
        path = tmp_path / f"{name}.wav"
        with pytest.raises(SystemExit) as stop:
            run(**{key: path, "output": tmp_path / "out" / "never.wav"})
        message = capsys.readouterr().err
        assert stop.value.code == 2
        assert message.count("\n") == 1
        assert str(path) in message
        assert any(part in message for part in reason.split("|")), message
        assert list((tmp_path / "out").iterdir()) == []


def test_bad_checkpoints_and_outputs_are_one_sentence_and_code_2(
    run, tmp_path, capsys, tiny_checkpoint
):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(tiny_checkpoint.read_bytes()[:5000])
    other = tmp_path / "other.pt"
    torch.save({"weight": torch.zeros(1)}, other)
    (tmp_path / "blocked").write_text("")
    folder, pipe = tmp_path / "folder.wav", tmp_path / "pipe.wav"
    folder.mkdir()
    os.mkfifo(pipe)
    for settings, reason in [
        ({"ckpt": cut}, "cannot be read"),
        ({"ckpt": other}, "none of the known networks"),
        ({"ckpt": SOURCE}, "cannot be read"),
        ({"ckpt": tmp_path / "missing"}, "no such file"),
        ({"speaker_encoder": tiny_checkpoint}, "holds autovc weights"),
        ({"output": tmp_path}, "end in .wav"),
        ({"output": folder}, "is a folder"),
        ({"output": pipe}, "is a device or pipe"),
        ({"source": pipe}, "is a device or pipe"),
        ({"seed": -1}, "seed=-1"),
        ({"output": tmp_path / "blocked" / "a.wav"}, "cannot be written"),
        ({"also": "voice"}, "none of source, target"),
        ({"target": "null"}, "target=FILE"),
        ({"device": "warp"}, "device=warp"),
    ]:
        with pytest.raises(SystemExit) as stop:
            run(**settings)
        message = capsys.readouterr().err
        assert (stop.value.code, message.count("\n")) == (2, 1)
        assert reason in message


@pytest.mark.parametrize(
    ("argument", "answer"),
    [
        ("sorce=a.wav", "did you mean source?"),
        ("vocoder=griffinlim", "did you mean griffin_lim?"),
        ("vocodr=auto", "did you mean vocoder?"),
        ("vocoder.n_itr=3", "did you mean"),
        ("source", "source"),
        ("vocoder=null", "a group was given null"),
    ],
)
def test_misspelt_keys_get_the_nearest_one(argument, answer):
    result = command(argument)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert answer in result.stderr
    assert "Traceback" not in result.stderr
