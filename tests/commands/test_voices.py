"""voices.py: learned and shared voices."""

import numpy as np
import pytest
import soundfile

from helpers import SOURCE, composed, refusal, write_wav
from vc_lightning.commands import convert
from vc_lightning.commands.support import entry_point
from vc_lightning.conversion.voices.shelf import VoiceShelf

VERBS = "learn (keep the voice of target= under a name)"


@pytest.fixture
def conversion(tiny_checkpoint, tmp_path):
    """Convert the source to a learned voice; return the sound."""

    def conversion(name, folder):
        output = tmp_path / f"{folder.name}.wav"
        settings = {
            "source": SOURCE,
            "target": name,
            "output": output,
            "ckpt": tiny_checkpoint,
            "vocoder": "griffin_lim",
            "vocoder.n_iter": 1,
            "voices.dir": folder,
        }
        convert.main(composed("convert", *(f"{k}={v}" for k, v in settings.items())))
        return soundfile.read(output)[0]

    return conversion


def test_learns_exports_and_imports(voices, conversion, tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    words = "I, Anna, agree: 'all' = fine."
    voices("learn", name="Anna", consent=f'"{words}"', made_by="Ben")
    shared, theirs = tmp_path / "anna.safetensors", tmp_path / "theirs"
    voices("export", name="Anna", licence="CC0", output=shared)
    voices("import", file=shared, **{"voices.dir": theirs})
    for verb, settings in (("list", {}), ("show", {"name": "Anna"}), ("show", {"file": shared})):
        caplog.clear()
        voices(verb, **settings, **{"voices.dir": theirs})
        for text in (words, "made by  Ben", "licence  CC0"):
            assert text in caplog.text
    np.testing.assert_array_equal(conversion("Anna", voices.folder), conversion("Anna", theirs))
    for verb, settings, reason in [
        ("import", {"file": shared, "voices.dir": theirs}, "there is a voice Anna already"),
        ("export", {"name": "Anna", "output": shared}, "exists already"),
        ("export", {"name": "Ben", "output": tmp_path / "b.safetensors"}, "not learned yet"),
        ("export", {"name": "Anna", "output": tmp_path / "b.wav"}, "end in .safetensors"),
        ("import", {"file": SOURCE}, "is not a voice (its header is too long)"),
        ("import", {}, "import: name the file, as in python voices.py import FILE"),
        ("list", {"consent": "yes"}, "consent: goes with learn, export, not with list"),
        ("learn", {}, "learn: name the voice"),
        ("learn", {"name": "a/b"}, "name it by"),
        ("learn", {"name": "C", "target": "null"}, "name the recordings of the speaker"),
        ("learn", {"name": "C", "target": "Anna"}, "is a learned voice already"),
        ("learn", {"name": "C", "consent": tmp_path / "no.m4a"}, "no such file"),
        ("show", {}, "show: name a voice or a file"),
        ("forget", {"name": "Nobody"}, "not learned yet"),
        ("lern", {}, "lern: is not a verb; say what to do: learn"),
    ]:
        with pytest.raises(SystemExit) as stop:
            voices(verb, **settings)
        message = capsys.readouterr().err
        assert (stop.value.code, message.count("\n")) == (2, 1), message
        assert reason in message


def test_voice_without_consent_is_not_exported(voices, tmp_path, caplog, capsys, speech):
    caplog.set_level("INFO")
    voices("learn", name="Anna")
    assert "no consent is stored with it" in caplog.text
    output = tmp_path / "anna.safetensors"
    with pytest.raises(SystemExit):
        voices("export", name="Anna", output=output)
    assert "only with its speaker's consent" in capsys.readouterr().err
    spoken = write_wav(tmp_path / "spoken.wav", speech[:32_000])
    voices("export", name="Anna", output=output, consent=spoken)
    voices("import", file=output, name="Anna 2")
    assert VoiceShelf(voices.folder).get("Anna 2").consent.seconds == 2
    assert "consent: spoken, 2.0 s" in caplog.text
    voices("forget", name="Anna 2")
    assert [path.name for path in voices.folder.glob("Anna 2*")] == []
    assert any(voices.folder.glob("Anna*"))  # the other voice stays


@pytest.mark.parametrize(
    ("config_name", "line", "expected"),
    [
        ("voices", "learn Anna target=a", ["verb=learn", "name=Anna", "target=a"]),
        ("voices", "target=a learn name=Anna", ["target=a", "verb=learn", "name=Anna"]),
        ("voices", "import a.safetensors name=B", ["verb=import", "file=a.safetensors", "name=B"]),
        ("voices", "show Anna", ["verb=show", "name=Anna"]),
        ("voices", f"show {SOURCE}", ["verb=show", f"file={SOURCE}"]),
        ("prepare", "--cfg job check", ["--cfg", "job", "verb=check"]),
        ("convert", "source", ["source"]),
    ],
)
def test_names_words(config_name, line, expected):
    assert entry_point.name_words(line.split(), config_name) == expected


@pytest.mark.parametrize(
    ("command", "arguments", "answer"),
    [
        ("voices", [], f"say what to do: {VERBS}"),
        (
            "convert",
            ["voices.learn=Anna B", "target=a", "voices.made_by=me"],
            "voices.learn: type instead: python voices.py learn 'Anna B' target=a made_by=me",
        ),
        ("convert", ["voices.list=true"], "type instead: python voices.py list"),
        ("convert", ["inspect=a.wav"], "type instead: python voices.py show a.wav"),
        (
            "train",
            ["data.dir=D", "data.check=true"],
            "data.check: type instead: python prepare.py check data.dir=D",
        ),
        (
            "train",
            ["data.dir=D", "data.write_shards=O", "data.shard_megabytes=9"],
            "type instead: python prepare.py shards data.dir=D output=O shard_megabytes=9",
        ),
        ("train", ["part=3/8"], "part: type instead: python prepare.py features part=3/8"),
        ("train", ["cluster=slurm"], "python prepare.py features cluster=slurm"),
        ("train", ["data.check=false"], "data.check: train.py has no such key any more; leave it"),
        ("train", ["extras.print_config=true"], "this key is called print_config"),
        ("evaluate", ["judges=words"], "judges: this key is called scorers"),
        ("train", ["init_freq=8"], "init_freq: this key is called ckpt_freq"),
        ("train", ["test=true"], "python evaluate.py data.manifest=TABLE ckpt=FILE scores"),
        ("prepare", ["chek", "data.dir=D"], "chek: is not a verb; say what to do: manifest (make"),
        ("prepare", ["shards", "data.dir=D"], "shards: name a new folder for them with output="),
        ("prepare", ["check", "part=1/2"], "part, cluster: only features can be split, not check"),
    ],
)
def test_other_place_of_keys(command, arguments, answer):
    code, message = refusal(command, *arguments)
    assert (code, message.count("\n")) == (2, 1), message
    assert answer in message
