"""Data sets in Parquet and WebDataset form: read in place, in a folder."""

import io
import json
import tarfile

import numpy as np
import pyarrow
import pytest
import soundfile
from datasets import Audio, ClassLabel, Features, Value
from pyarrow import parquet

from vc_lightning.audio.files.io import load
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.errors import InputError
from vc_lightning.data.corpora.hub import read
from vc_lightning.data.corpora.manifest_file import make_manifest
from vc_lightning.data.corpora.recordings import LeftOut
from vc_lightning.data.features.cache import FeatureCache
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.data.manifest import read_manifest

NO_COLUMNS = dict.fromkeys(("audio", "speaker", "text", "lang", "sex", "seconds"))
SETTINGS = {"config": None, "columns": NO_COLUMNS, "max_files": None, "lang": "", "licence": ""}
FEATURES = Features(
    {
        "id": Value("string"),
        "audio": Audio(sampling_rate=16_000),
        "speaker_id": ClassLabel(names=["anna", "bob"]),
        "text": Value("string"),
        "gender": ClassLabel(names=["female", "male"]),
        "duration": Value("float32"),
    }
)
CARD = "---\nlicense: cc-by-4.0\nlanguage:\n- en\n---\nA data set.\n"


def wav(number):
    """Samples (n,) that tell one recording from another."""
    rng = np.random.default_rng(number)
    return (0.1 * rng.standard_normal(8_000 + 100 * number)).astype(np.float32)


def flac(number):
    file = io.BytesIO()
    soundfile.write(file, wav(number), 16_000, format="flac")
    return file.getvalue()


def table(numbers):
    return pyarrow.Table.from_pydict(
        {
            "id": [str(n) for n in numbers],
            "audio": [{"bytes": flac(n), "path": f"{n}.flac"} for n in numbers],
            "speaker_id": [n % 2 for n in numbers],
            "text": [f"Sentence {n}." for n in numbers],
            "gender": [n % 2 for n in numbers],
            "duration": [len(wav(n)) / 16_000 for n in numbers],
        },
        schema=FEATURES.arrow_schema,
    )


@pytest.fixture
def dataset(tmp_path):
    """A data set as the Hub stores them: two files for training, one for tests, and a card."""
    root = tmp_path / "speech"
    (root / "data").mkdir(parents=True)
    for name, numbers in (
        ("train-00000-of-00002", range(10)),
        ("train-00001-of-00002", range(10, 13)),
        ("test-00000-of-00001", range(13, 15)),
    ):
        parquet.write_table(table(numbers), root / f"data/{name}.parquet", row_group_size=4)
    (root / "README.md").write_text(CARD)
    return root


@pytest.fixture
def webdataset(tmp_path):
    root = tmp_path / "shards"
    root.mkdir()
    with tarfile.open(root / "train-000000.tar", "w") as tar:
        for number in range(4):
            about = {"speaker": f"s{number % 2}", "gender": "male"} if number < 3 else {}
            for name, content in (
                (f"utterance{number}.flac", flac(number)),
                (f"utterance{number}.json", json.dumps(about).encode()),
                (f"utterance{number}.txt", f"Sentence {number}.\n".encode()),
            ):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return root


def test_parquet(dataset):
    rows = list(read(str(dataset), **SETTINGS))
    assert len(rows) == 15
    assert {row.split for row in rows[:13]} == {"train"}
    assert {row.split for row in rows[13:]} == {"test"}
    row = rows[7]
    assert (row.speaker, row.sex, row.lang, row.licence) == ("bob", "M", "en", "cc-by-4.0")
    assert row.text == "Sentence 7."
    assert row.seconds == pytest.approx(len(wav(7)) / 16_000)
    assert row.path.name == "train-00000-of-00002.parquet?row=7&column=audio"
    for number, row in enumerate(rows):
        samples, rate = load(row.path)
        assert rate == 16_000
        np.testing.assert_allclose(samples, wav(number), atol=2**-15)


def test_a_manifest_of_parquet_rows_is_read_in_place(dataset, tmp_path):
    made = make_manifest(
        read(str(dataset), **SETTINGS | {"max_files": 1}),
        min_seconds=0.51,
        max_per_speaker=5,
        val_speakers=1,
        test_speakers=0,
        seed=0,
    )
    made.write(tmp_path / "list.tsv")
    (row, *_) = read_manifest(tmp_path / "list.tsv", None)
    assert row.path == tmp_path / "speech/data/train-00000-of-00002.parquet?row=2&column=audio"
    assert load(row.path)[0].shape == wav(2).shape
    report = "\n".join(made.summary())
    assert "val: 4 recordings of 1 speakers" in report
    assert "licences: cc-by-4.0 (8)" in report
    assert "left out: 2 that exceed max_per_speaker=5" in report
    assert "left out: 2 that are shorter than 0.51 s" in report


def test_features_of_parquet_rows_are_those_of_files(
    tmp_path, encoder, mel_settings, speech, monkeypatch
):
    """And they are cached: once computed, the sound is not read again."""
    parts = [speech[:32_000], speech[32_000:64_000], speech[16_000:48_000]]
    content = []
    for number, part in enumerate(parts):
        soundfile.write(tmp_path / f"{number}.flac", part, 16_000)
        content.append({"bytes": (tmp_path / f"{number}.flac").read_bytes(), "path": ""})
    rows = pyarrow.table({"audio": content, "speaker": ["a", "b", "b"]})
    file = tmp_path / "set/train.parquet"
    file.parent.mkdir()
    parquet.write_table(rows, file, row_group_size=2)
    listed = [row.path for row in read(str(file.parent), **SETTINGS)]
    needs = FeatureNeeds(MelSpectrogram(**mel_settings), encoder, "e")
    of_files, of_rows = (FeatureCache(tmp_path / name, needs) for name in ("f", "r"))
    expected, _ = of_files.prepare([tmp_path / f"{n}.flac" for n in range(3)], 0, False)
    found, unusable = of_rows.prepare(
        [*listed, file.with_name("train.parquet?row=3&column=audio")], 0, False
    )
    assert list(found.values()) == list(expected.values())
    assert list(unusable.values()) == ["cannot be read (it has 3 rows, counted from 0)"]
    for (one,), (other,) in zip(found.values(), expected.values(), strict=True):
        mels = of_rows.files.of(one).read_mel(0, 50), of_files.files.of(other).read_mel(0, 50)
        np.testing.assert_array_equal(*mels)
    monkeypatch.setattr("vc_lightning.audio.files.containers.extracted", None)
    assert of_rows.prepare(listed, 0, False)[0] == found


def test_webdataset(webdataset):
    rows = list(read(str(webdataset), **SETTINGS))
    assert [row.speaker for row in rows[:3]] == ["s0", "s1", "s0"]
    assert rows[1].text == "Sentence 1."
    assert rows[1].sex == "M"
    assert isinstance(rows[3], LeftOut)
    assert rows[3].reason == "name no speaker"
    for number, row in enumerate(rows[:3]):
        np.testing.assert_allclose(load(row.path)[0], wav(number), atol=2**-15)


def test_asks_for_the_column_of_speakers(dataset):
    path = dataset / "data/train-00000-of-00002.parquet"
    renamed = table(range(2)).rename_columns(["id", "audio", "who", "text", "gender", "duration"])
    for file in dataset.glob("data/*.parquet"):
        file.unlink()
    parquet.write_table(renamed.replace_schema_metadata(None), path)
    with pytest.raises(InputError, match=r"which column is its speaker\? Give corpus.columns.spea"):
        list(read(str(dataset), **SETTINGS))
    columns = NO_COLUMNS | {"speaker": "who"}
    rows = list(read(str(dataset), **SETTINGS | {"columns": columns, "max_files": 1}))
    assert rows[1].speaker == "1"
    columns = NO_COLUMNS | {"speaker": "whom"}
    with pytest.raises(InputError, match=r"corpus.columns.speaker=whom: the columns of root=.* id"):
        list(read(str(dataset), **SETTINGS | {"columns": columns}))


def test_refuses_what_is_no_such_data_set(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=r"^root=.*none: cannot be read"):
        list(read(str(tmp_path / "none"), **SETTINGS))
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv/train.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="holds files of the form csv"):
        list(read(str(tmp_path / "csv"), **SETTINGS))
    (dataset / "data/train-00000-of-00002.parquet").write_bytes(b"PAR1 damaged")
    with pytest.raises(InputError, match=r"train-00000-of-00002.parquet: cannot be read"):
        list(read(str(dataset), **SETTINGS))


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("data/train-00000-of-00002.parquet?row=10&column=audio", "has 10 rows, counted from 0"),
        ("data/train-00000-of-00002.parquet?row=1&column=sound", "its columns are id, audio"),
        ("data/train-00000-of-00002.parquet?row=1&column=text", "column text holds no sound"),
        ("data/none.parquet?row=1&column=audio", "there is no such file"),
        ("README.md.tar?offset=3&size=4", "there is no such file"),
    ],
)
def test_addresses_that_lead_nowhere(dataset, address, reason):
    with pytest.raises(InputError, match=reason) as error:
        load(dataset / address)
    assert str(error.value).startswith(str(dataset / address.partition("?")[0]))
    assert str(error.value).count(str(dataset)) == 1


def test_a_file_with_such_a_name_is_itself(tmp_path):
    path = tmp_path / "x.tar?offset=0&size=4"
    soundfile.write(path, wav(1), 16_000, format="wav")
    assert load(path)[0].shape == wav(1).shape
    cut = tmp_path / "cut.tar"
    cut.write_bytes(b"1234")
    with pytest.raises(InputError, match="the tar ends before"):
        load(tmp_path / "cut.tar?offset=2&size=4")
