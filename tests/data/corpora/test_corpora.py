"""Small folders of each corpus's layout give manifests with the right rows and left out files."""

import json

import numpy as np
import pytest
import soundfile
from hydra.utils import instantiate
from omegaconf import OmegaConf

from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.common.tables import table_rows
from vc_lightning.data.corpora.manifest_file import make_manifest
from vc_lightning.data.corpora.recordings import LeftOut, Recording
from vc_lightning.data.corpora.splits import with_splits

CHOICES = {
    "min_seconds": 0.5,
    "max_per_speaker": None,
    "val_speakers": 0.05,
    "test_speakers": 0.05,
    "seed": 0,
}


def sound(path, seconds=1.0):
    """Write a recording, with the folders that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wav = 0.1 * np.sin(np.arange(round(seconds * 16_000)) * 0.05).astype(np.float32)
    soundfile.write(path, wav, 16_000)


def text(path, content):
    """Write a text file, with the folders that it is in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def listed(corpus, root, **settings):
    """What the reader of `corpus=` yields: recordings by name, and what it left out."""
    config = OmegaConf.load(resources.CONF / "corpus" / f"{corpus}.yaml")
    items = list(instantiate(OmegaConf.merge(config, settings, {"root": str(root)})))
    left = {item.reason: (item.example, item.count) for item in items if isinstance(item, LeftOut)}
    return {item.path.name: item for item in items if isinstance(item, Recording)}, left


def facts(recording):
    return (
        *(recording.speaker, recording.split, recording.lang, recording.sex),
        *(recording.text, recording.licence),
    )


@pytest.fixture
def vctk(tmp_path):
    root = tmp_path / "VCTK-Corpus-0.92"
    for name in ("p225_001_mic1", "p225_001_mic2", "p225_002_mic1"):
        sound(root / f"wav48_silence_trimmed/p225/{name}.flac")
    sound(root / "wav48_silence_trimmed/s5/s5_001_mic1.flac")
    text(root / "wav48_silence_trimmed/log.txt", "")
    text(root / "wav48_silence_trimmed/p225/notes.md", "")
    text(root / "txt/p225/p225_001.txt", "Please call Stella.\n")
    text(
        root / "speaker-info.txt",
        "ID  AGE  GENDER  ACCENTS  REGION COMMENTS\np225  23  F  English  Southern  England\n"
        "s5  21  M  British\n",
    )
    return root


def test_vctk(vctk):
    found, left = listed("vctk", vctk.parent)  # the folder that holds it
    assert found.keys() == {"p225_001_mic1.flac", "p225_002_mic1.flac", "s5_001_mic1.flac"}
    first = found["p225_001_mic1.flac"]
    assert facts(first) == ("p225", "", "en", "F", "Please call Stella.", "CC-BY-4.0")
    assert facts(found["s5_001_mic1.flac"])[3:5] == ("M", "")
    assert left == {
        "are of the other microphone than mic1": ("p225_001_mic2.flac", 1),
        "are not named like recordings of VCTK": ("notes.md", 1),
    }
    assert listed("vctk", vctk, microphone="mic2")[0].keys() == {"p225_001_mic2.flac"}


def test_vctk_before_version_0_92(tmp_path):
    sound(tmp_path / "wav48/p225/p225_001.wav")
    text(tmp_path / "speaker-info.txt", "ID  AGE  GENDER  ACCENTS  REGION\n225  23  F    English\n")
    found, left = listed("vctk", tmp_path, licence="ODC-By 1.0")
    assert facts(found["p225_001.wav"]) == ("p225", "", "en", "F", "", "ODC-By 1.0")
    assert left == {}


def test_librispeech(tmp_path):
    root = tmp_path / "LibriSpeech"
    sound(root / "train-clean-100/19/198/19-198-0000.flac")
    sound(root / "dev-other/84/121/84-121-0000.flac")
    sound(root / "raw-mp3/1/2/1-2-0000.flac")
    text(root / "train-clean-100/19/198/19-198.trans.txt", "19-198-0000 NORTHANGER ABBEY\n")
    text(root / "SPEAKERS.TXT", ";ID  |SEX| SUBSET\n19   | F | train-clean-100 | 25 | Kara\n")
    found, left = listed("librispeech", root)
    expected = ("19", "train", "en", "F", "NORTHANGER ABBEY", "CC-BY-4.0")
    assert facts(found["19-198-0000.flac"]) == expected
    assert facts(found["84-121-0000.flac"])[:4] == ("84", "val", "en", "")
    assert left == {"are in a folder that is not part of the corpus": ("raw-mp3/1-2-0000.flac", 1)}


def test_libritts(tmp_path):
    path = tmp_path / "LibriTTS_R/test-clean/61/70968/61_70968_000003_000001.wav"
    sound(path)
    text(path.with_suffix(".normalized.txt"), "Give not so earnest a mind.")
    text(path.with_suffix(".original.txt"), "Give not so earnest a mind!!")
    text(tmp_path / "LibriTTS_R/speakers.tsv", "READER\tGENDER\tSUBSET\tNAME\n61\tM\ttest\tJ.\n")
    found, left = listed("libritts", tmp_path)
    expected = ("61", "test", "en", "M", "Give not so earnest a mind.", "CC-BY-4.0")
    assert facts(found[path.name]) == expected
    assert left == {}


def test_ljspeech(tmp_path):
    for name in ("LJ001-0001", "LJ001-0003"):
        sound(tmp_path / f"LJSpeech-1.1/wavs/{name}.wav")
    text(
        tmp_path / "LJSpeech-1.1/metadata.csv",
        "LJ001-0001|in 1455|in fourteen fifty-five\nLJ001-0002|gone|gone\n",
    )
    found, left = listed("ljspeech", tmp_path)
    expected = ("LJ", "", "en", "F", "in fourteen fifty-five", "public domain")
    assert {name: facts(r) for name, r in found.items()} == {"LJ001-0001.wav": expected}
    assert left == {
        "are in metadata.csv but not in wavs/": ("LJ001-0002", 1),
        "are not in metadata.csv": ("LJ001-0003.wav", 1),
    }


@pytest.fixture
def commonvoice(tmp_path):
    root = tmp_path / "cv-corpus-21.0/de"
    people = {"a.mp3": "A" * 128, "b.mp3": "B" * 128, "c.mp3": "A" * 128, "gone.mp3": "B" * 128}
    head = "client_id\tpath\tsentence\tgender\tlocale\n"

    def rows(*names):
        return head + "".join(f'{people[n]}\t{n}\tEin "Satz"\tfemale_feminine\tde\n' for n in names)

    for name in ("a.mp3", "b.mp3", "c.mp3"):
        (root / "clips").mkdir(parents=True, exist_ok=True)
        (root / "clips" / name).write_bytes(b"")  # its length is in clip_durations.tsv
    text(root / "validated.tsv", rows(*people))
    text(root / "test.tsv", rows("a.mp3"))
    text(root / "dev.tsv", head)
    text(root / "other.tsv", rows("b.mp3", "b.mp3"))
    text(root / "clip_durations.tsv", "clip\tduration[ms]\na.mp3\t4250\nb.mp3\t1000\n")
    return root


def test_commonvoice(commonvoice):
    found, left = listed("commonvoice", commonvoice.parent.parent)
    expected = ("A" * 16, "test", "de", "F", 'Ein "Satz"', "CC0-1.0")
    assert facts(found["a.mp3"]) == expected
    assert found["a.mp3"].seconds == 4.25
    assert found["b.mp3"].split == "train"
    assert facts(found["c.mp3"]) == expected  # another clip of a speaker of the test set
    assert left == {
        "are in validated.tsv but not in clips/": ("gone.mp3", 1),
        "have not been confirmed by two listeners (other.tsv)": ("b.mp3", 2),
    }
    with pytest.raises(InputError, match=r"corpus.languages=fr: is not in .*which holds de"):
        listed("commonvoice", commonvoice, languages=["fr"])


def test_folder(tmp_path):
    sound(tmp_path / "anna/one.wav")
    text(tmp_path / "anna/one.txt", "Good morning.\n")
    sound(tmp_path / "bob/two.flac")
    found, _ = listed("folder", tmp_path, lang="en", licence="CC0-1.0")
    assert facts(found["one.wav"]) == ("anna", "", "en", "", "Good morning.", "CC0-1.0")
    assert facts(found["two.flac"]) == ("bob", "", "en", "", "", "CC0-1.0")
    with pytest.raises(InputError, match=r"^root=.*: there is no such folder"):
        listed("folder", tmp_path / "none")


def test_lhotse(tmp_path):
    def recording(name, **source):
        return {
            "id": name,
            "sources": [{"type": "file", "channels": [0], "source": f"{name}.wav"} | source],
            "sampling_rate": 16_000,
            "num_samples": 16_000,
            "duration": 1.0,
        }

    def supervision(name, of, speaker, start=0.0, **more):
        times = {"start": start, "duration": 0.5, "channel": 0}
        return {"id": name, "recording_id": of, "speaker": speaker} | times | more

    def lines(name, items):
        text(tmp_path / name, "".join(f"{json.dumps(item)}\n" for item in items))

    recordings = [recording(name) for name in ("one", "two", "gone", "mute")]
    recordings.append(recording("web", type="url", source="https://example.org/a.wav"))
    sound(tmp_path / "one.wav")
    sound(tmp_path / "two.wav")
    lines("x_recordings_dev.jsonl", recordings)
    supervisions = [
        supervision("1b", "one", "anna", 0.5, text="there"),
        supervision("1a", "one", "anna", 0.0, text="hello", language="English", gender="female"),
        supervision("2a", "two", "anna"),
        supervision("2b", "two", "bob"),
        supervision("3", "gone", "bob"),
        supervision("4", "web", "bob"),
    ]
    lines("x_supervisions_dev.jsonl", supervisions)
    found, left = listed("lhotse", tmp_path, licence="CC0-1.0")
    assert facts(found["one.wav"]) == ("anna", "val", "", "", "hello there", "CC0-1.0")
    assert left == {
        "hold several speakers": ("two", 1),
        "are files that do not exist": ("gone.wav", 1),
        "have no supervision that names a speaker": ("mute", 1),
        "are not one file each (URLs, commands, several channels)": ("web", 1),
    }
    for path in tmp_path.glob("*.jsonl"):
        path.unlink()
    cut = {
        "id": "cut",
        "start": 0.0,
        "duration": 1.0,
        "channel": 0,
        "type": "MonoCut",
        "recording": recordings[0],
        "supervisions": [supervisions[1]],
    }
    lines("cuts_train.jsonl", [cut])
    found, left = listed("lhotse", tmp_path)
    assert facts(found["one.wav"]) == ("anna", "train", "en", "F", "hello", "")
    assert left == {}
    text(tmp_path / "cuts_test.jsonl", "no JSON\n")
    with pytest.raises(InputError, match=r"cuts_test.jsonl: cannot be read as a manifest"):
        listed("lhotse", tmp_path)


@pytest.mark.parametrize(
    ("corpus", "holds"),
    [
        ("vctk", "VCTK as unpacked, which holds wav48"),
        ("librispeech", "LibriSpeech as unpacked"),
        ("libritts", "LibriTTS as unpacked"),
        ("ljspeech", "LJ Speech as unpacked, which holds metadata.csv"),
        ("commonvoice", "Common Voice as unpacked"),
        ("lhotse", "no manifests of lhotse"),
    ],
)
def test_refuses_other_folders(tmp_path, corpus, holds):
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match=holds) as error:
        listed(corpus, tmp_path)
    assert str(error.value).startswith(f"root={tmp_path}: ")


def test_manifest_says_what_is_left_out(tmp_path):
    sound(tmp_path / "data/anna/long.wav", 2)
    sound(tmp_path / "data/anna/short.wav", 0.2)
    sound(tmp_path / "data/anna/a\tb.wav", 1)
    text(tmp_path / "data/anna/damaged.wav", "no sound")
    text(tmp_path / "data/anna/long.txt", "two\tlines\nof text")
    found, _ = listed("folder", tmp_path / "data")
    made = make_manifest(found.values(), **CHOICES)
    made.write(tmp_path / "new/list.tsv")
    (row,) = table_rows(tmp_path / "new/list.tsv", "data.manifest", {"path"})
    assert row == {
        "path": str(tmp_path / "data/anna/long.wav"),
        "speaker": "anna",
        "split": "",
        "seconds": "2.00",
        "lang": "",
        "sex": "",
        "text": "two lines of text",
        "licence": "",
    }
    made.write(tmp_path / "data/list.tsv")  # beside the recordings, which may then move
    (row,) = table_rows(tmp_path / "data/list.tsv", "data.manifest", {"path"})
    assert row["path"] == "anna/long.wav"
    report = "\n".join(made.summary())
    assert "no split: 1 recordings of 1 speakers, 0.00 hours" in report
    assert "left out: 1 that are shorter than 0.5 s, such as short.wav" in report
    assert "left out: 1 that have a tab or line break in their name" in report
    assert "left out: 1 that cannot be read, such as" in report
    assert "1 speakers are too few" in report
    with pytest.raises(InputError, match=r"no recording is left \(1 are shorter than 1 s\)"):
        make_manifest([found["short.wav"]], **CHOICES | {"min_seconds": 1})


def recordings(n_speakers, split=""):
    return [
        Recording(f"{s}_{i}.wav", f"s{s}", split, seconds=1.0)
        for s in range(n_speakers)
        for i in range(3)
    ]


def speakers(recordings, split):
    return {recording.speaker for recording in recordings if recording.split == split}


def test_splits_keep_speakers_apart():
    split, how = with_splits(recordings(40), 0.05, 0.1, 0)
    held = [speakers(split, name) for name in ("train", "val", "test")]
    assert [len(names) for names in held] == [34, 2, 4]
    assert len(set.union(*held)) == 40
    assert how == "val: 2 speakers, drawn; test: 4 speakers, drawn"
    assert split == with_splits(recordings(40), 0.05, 0.1, 0)[0]
    assert split != with_splits(recordings(40), 0.05, 0.1, 1)[0]
    assert len(speakers(with_splits(recordings(3), 1, 1, 0)[0], "train")) == 1
    with pytest.raises(InputError, match="leave none of 3 speakers"):
        with_splits(recordings(3), 2, 1, 0)


def test_a_corpus_of_tests_only_stays_one():
    split, how = with_splits(recordings(12, "test"), 0.05, 0.05, 0)
    assert speakers(split, "test") == {f"s{s}" for s in range(12)}
    assert how == "test: the corpus's own"


def test_own_splits_are_kept_unless_they_share_speakers():
    own = [*recordings(12), Recording("x.wav", "x", "test"), Recording("y.wav", "y", "val")]
    split, how = with_splits(own, 0.05, 0.05, 0)
    assert speakers(split, "test") == {"x"}
    assert speakers(split, "val") == {"y"}
    assert len(speakers(split, "train")) == 12
    assert how == "val and test: the corpus's own"
    split, how = with_splits(own[:-1], 0.05, 0.05, 0)  # without its own validation set
    assert how == "test: the corpus's own; val: 1 speakers, drawn"
    assert speakers(split, "test") == {"x"}
    split, how = with_splits([*own, Recording("z.wav", "x", "train")], 0.05, 0.05, 0)
    assert how.startswith("the corpus's own are not used, because 1 speakers are in several")
    apart = [speakers(split, name) for name in ("train", "val", "test")]
    assert [len(names) for names in apart] == [12, 1, 1]
    assert not set.intersection(*apart)
