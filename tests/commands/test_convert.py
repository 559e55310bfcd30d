"""convert.py as a user runs it."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from helpers import ROOT, SOURCE, TARGET, composed, refusal, two_speakers, write_wav
from vc_lightning import VoiceConverter
from vc_lightning.audio.files import io as audio
from vc_lightning.commands import convert
from vc_lightning.models.vocoders.factory import griffin_lim


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
    """Run convert.py's job with a tiny network; return the output's path."""

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

    run.checkpoint = tiny_checkpoint
    return run


def test_readme_command(tmp_path):
    """In another folder, so that nothing depends on where it is run."""
    result = command(f"source={SOURCE}", f"target={TARGET}", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    wav, rate = soundfile.read(tmp_path / "conversion.wav", dtype="int16")
    assert (rate, len(wav)) == (16_000, soundfile.info(SOURCE).frames)
    for word in ("to target", "to source", "before", "after", "real-time factor", "SourceFilter"):
        assert word in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["conversion.wav"]


def test_unusual_file_names(tmp_path):
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


def test_targets_as_list_folder_and_glob(run, tmp_path, caplog):
    caplog.set_level("INFO")
    folder = tmp_path / "voices"
    folder.mkdir()
    wav, rate = audio.load(TARGET)
    for index in range(2):
        write_wav(folder / f"{index}.wav", wav[index * 60_000 : index * 60_000 + 60_000], rate)
    (folder / "notes.txt").write_text("no audio")
    outputs = [
        soundfile.read(run(target=target))[0].tolist()
        for target in (folder, f"{folder}/*.wav", f"[{folder}/0.wav,{folder}/1.wav]")
    ]
    assert outputs[0] == outputs[1] == outputs[2]
    assert f"(target: {folder}/1.wav, left out of the voice)" in caplog.messages
    assert outputs[0] == soundfile.read(run(target=folder / "0.wav"))[0].tolist()


def test_also_writes_copy_synthesis(run):
    output = run(also="[source,target]")
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
def test_refuses_bad_recordings(run, tmp_path, capsys, key):
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


def test_refuses_bad_checkpoints_and_outputs(run, tmp_path, capsys, tiny_checkpoint):
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
        ({"output": tmp_path / "blocked"}, "cannot be written"),
        ({"output": folder}, "is a folder"),
        ({"output": pipe}, "is a device or pipe"),
        ({"source": pipe}, "is a device or pipe"),
        ({"seed": -1}, "seed=-1"),
        ({"output": tmp_path / "blocked" / "a.wav"}, "cannot be written"),
        ({"also": "[voice]"}, "choose one of source, target"),
        ({"target": "null"}, "target=FILE"),
        ({"device": "warp"}, "device=warp"),
        ({"match": "some"}, "choose one of one, all, aligned"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"overwrite": "maybe"}, "overwrite=maybe"),
        ({"match": "all", "also": "[source]"}, "also=['source']: works for one conversion only"),
        ({"match": "all", "output": tmp_path / "a.wav"}, "several conversions need a folder"),
        ({"cleanup.trim": 3}, "cleanup.trim=3"),
    ]:
        with pytest.raises(SystemExit) as stop:
            run(**settings)
        message = capsys.readouterr().err
        assert (stop.value.code, message.count("\n")) == (2, 1)
        assert reason in message


def test_warns_of_target_with_two_speakers(run, tmp_path, speech, other_speech, caplog):
    both = write_wav(tmp_path / "both.wav", two_speakers(speech, other_speech))
    run(source=SOURCE, target=both, output=tmp_path / "a.wav")
    assert f"{both}: begins and ends like two speakers" in caplog.text


@pytest.fixture
def recordings(tmp_path, speech, other_speech):
    """Folders of three sources, one of them unusable, and two targets."""
    for folder, wav, count in (("in", speech, 2), ("to", other_speech, 2)):
        (tmp_path / folder).mkdir()
        for index in range(count):
            part = wav[index * 32_000 : index * 32_000 + 32_000 + index * 5_000]
            write_wav(tmp_path / folder / f"{folder}{index}.wav", part)
    (tmp_path / "in" / "in2.wav").write_text("no sound")
    return tmp_path


def assert_same_sound(path, other):
    """But for rounding, and for the end, where what is side by side differs a little."""
    wav, other_wav = (soundfile.read(file)[0] for file in (path, other))
    assert wav.shape == other_wav.shape
    assert np.abs(wav).max() > 0.01
    np.testing.assert_allclose(wav[:-2048], other_wav[:-2048], atol=1e-3)


def table(folder):
    with (folder / "conversions.csv").open(newline="") as file:
        return {Path(row["output"]).name: row for row in csv.DictReader(file)}


def test_converts_readable_files_of_folder(run, recordings, caplog):
    caplog.set_level("INFO")
    with pytest.raises(SystemExit) as stop:
        run(source=recordings / "in", target=recordings / "to", output=recordings / "out")
    assert stop.value.code == 1
    assert any("in2.wav: is not audio" in message for message in caplog.messages)
    assert "2 converted, 1 failed" in caplog.text
    rows = table(recordings / "out")
    assert sorted(rows) == ["in0_to_to.wav", "in1_to_to.wav", "in2_to_to.wav"]
    assert "is not audio" in rows["in2_to_to.wav"]["error"]
    for index, seconds in enumerate((2.0, 2.3125)):
        row = rows[f"in{index}_to_to.wav"]
        assert float(row["seconds"]) == pytest.approx(seconds, abs=1e-3)
        assert row["error"] == ""
        assert -1 <= float(row["before"]) <= 1
        assert soundfile.info(row["output"]).frames == int(seconds * 16_000)
    assert len(list((recordings / "out").iterdir())) == 3


def test_keeps_existing_outputs(run, recordings, caplog):
    caplog.set_level("INFO")
    settings = {
        "source": f"[{recordings}/in/in0.wav,{recordings}/in/in1.wav]",
        "target": recordings / "to" / "to0.wav",
    }
    settings["output"] = recordings / "out"
    run(**settings)
    made = {path: path.read_bytes() for path in (recordings / "out").glob("*.wav")}
    assert len(made) == 2
    victim = next(iter(made))
    victim.unlink()
    caplog.clear()
    run(**settings)
    assert "1 of 2 conversions are there already" in caplog.text
    assert "another way" not in caplog.text
    assert_same_sound(victim, io.BytesIO(made[victim]))
    run(**settings, guidance=0.5)
    assert "2 of them have other weights or settings; overwrite=true replaces them" in caplog.text
    run(**settings, guidance=0.5, overwrite=True)
    assert all(path.read_bytes() != before for path, before in made.items())
    assert len(table(recordings / "out")) == 2


def test_skips_conversions_as_sources(run, recordings, monkeypatch, capsys):
    monkeypatch.chdir(recordings / "to")
    for _ in range(2):
        run(source=".", target=SOURCE, output="outputs")
        names = sorted(path.name for path in Path("outputs").glob("*.wav"))
        assert names == ["to0_to_source.wav", "to1_to_source.wav"]
    with pytest.raises(SystemExit):
        run(source="outputs", target=SOURCE, output="outputs")
    assert "all recordings lie in output=outputs" in capsys.readouterr().err


def test_batch_equals_single_conversions(run, recordings):
    """Another's longer mel beside it changes Griffin-Lim's last moments only."""
    settings = {
        "source": f"[{recordings}/in/in0.wav,{recordings}/in/in1.wav]",
        "target": recordings / "to",
    }
    for batch_size in (1, 8):
        run(**settings, output=recordings / f"out{batch_size}", batch_size=batch_size)
    for alone in (recordings / "out1").glob("*.wav"):
        assert_same_sound(alone, recordings / "out8" / alone.name)


def test_matching_modes(run, recordings):
    settings = {
        "source": f"[{recordings}/in/in0.wav,{recordings}/in/in1.wav]",
        "target": recordings / "to",
    }
    expected = {
        ("all", False): ["in0_to_to0", "in0_to_to1", "in1_to_to0", "in1_to_to1"],
        ("aligned", False): ["in0_to_to0", "in1_to_to1"],
        ("aligned", True): ["in0_to_to0", "in1_to_to1", "to0_to_in0", "to1_to_in1"],
    }
    for (match, both), names in expected.items():
        folder = recordings / f"{match}{both}"
        run(**settings, match=match, bidirectional=both, output=folder)
        assert sorted(path.stem for path in folder.glob("*.wav")) == names


def test_table_of_pairs_and_learned_voices(run, voices, recordings, caplog, capsys):
    caplog.set_level("INFO")
    own = {"voices.dir": voices.folder}
    voices("learn", name="Anna B", target=recordings / "to")
    voices("list")
    assert any(message.startswith("Anna B ") for message in caplog.messages)
    run(**own, source=recordings / "in" / "in0.wav", target="Anna B", output=recordings / "a.wav")
    for more, reason in (
        (
            {"target": "Anna B", "bidirectional": True, "output": recordings / "out"},
            "has no recordings",
        ),
        ({"target": "Anna B", "also": "[target]"}, "are not kept"),
    ):
        with pytest.raises(SystemExit):
            run(**own, **more)
        assert reason in capsys.readouterr().err
    converter = VoiceConverter.from_checkpoint(
        run.checkpoint, vocoder=lambda mel: griffin_lim(mel, "shipped", 1.15, 1, 0.99)
    )
    voice = converter.voice(sorted((recordings / "to").iterdir()))
    expected = converter.convert_to(recordings / "in" / "in0.wav", voice)
    learned = soundfile.read(recordings / "a.wav")[0]
    np.testing.assert_allclose(learned, expected, atol=1e-4)

    (recordings / "pairs.tsv").write_text(
        "source\ttarget\nin/in1.wav\tto/to0.wav|to/to1.wav\nin/in0.wav\tAnna B\n"
    )
    run(
        **own,
        pairs=recordings / "pairs.tsv",
        source="null",
        target="null",
        output=recordings / "out",
    )
    assert sorted(table(recordings / "out")) == ["in0_to_Anna B.wav", "in1_to_to.wav"]
    assert_same_sound(recordings / "out" / "in0_to_Anna B.wav", recordings / "a.wav")


def test_voice_skips_unusable_recordings(run, recordings, caplog):
    (recordings / "to" / "bad.wav").write_text("no sound")
    run(target=recordings / "to")
    assert "left out of the voice" in caplog.text
    assert f"{recordings}/to/bad.wav: is not audio" in caplog.text


def test_refuses_unknown_target(run, recordings, capsys):
    with pytest.raises(SystemExit) as stop:
        run(target="Nobody")
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert "target=Nobody: there is no such file, and no learned voice of this name" in message


def test_writes_provenance_note(run, voices, caplog):
    caplog.set_level("INFO")
    output = run(guidance=0.2)
    voices("show", file=output)
    said = caplog.messages[-1].splitlines()
    assert said[0] == f"{output}: synthetic, a voice conversion"
    assert "vocoder     GriffinLim" in said
    assert "guidance    0.2" in said
    assert any(line.startswith("checkpoint  tiny.safetensors ") for line in said)
    voices("show", file=SOURCE)
    assert "carries no note of vc_lightning" in caplog.messages[-1]


@pytest.mark.parametrize(
    ("argument", "answer"),
    [
        ("sorce=a.wav", "did you mean source?"),
        ("vocoder=griffinlim", "did you mean griffin_lim?"),
        ("vocodr=auto", "did you mean vocoder?"),
        ("vocoder.n_itr=3", "did you mean"),
        ("source", "source"),
        ("vocoder=null", "vocoder=null: choose one of auto, griffin_lim"),
    ],
)
def test_suggests_nearest_key(argument, answer):
    code, stderr = refusal("convert", argument)
    assert code == 2
    assert stderr.count("\n") == 1
    assert answer in stderr
