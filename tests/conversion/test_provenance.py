"""Notes in the files of conversions."""

import hashlib
import json
import re
import struct

import numpy as np
import pytest
import soundfile

from helpers import SOURCE
from vc_lightning.audio.files import encoding
from vc_lightning.common.errors import InputError
from vc_lightning.conversion import provenance
from vc_lightning.conversion.provenance import Provenance, strings

NOTE = Provenance(
    "vc_lightning 0.1.0", "2026-11-23T01:02:03Z", "net.safetensors 0123abcd", "GriffinLim", 0.35
)


def info_chunks(path):
    """The strings of a wav's LIST/INFO chunks, by a reader of our own."""
    data = path.read_bytes()
    strings, start = {}, 12
    while start < len(data):
        name, size = struct.unpack("<4sI", data[start : start + 8])
        if name == b"LIST" and data[start + 8 : start + 12] == b"INFO":
            at = start + 12
            while at < start + 8 + size:
                key, length = struct.unpack("<4sI", data[at : at + 8])
                strings[key.decode()] = data[at + 8 : at + 8 + length].rstrip(b"\0").decode()
                at += 8 + length + length % 2
        start += 8 + size + size % 2
    return strings


def test_note_round_trips(tmp_path, speech):
    path = encoding.save(tmp_path / "a.wav", speech, 16_000, strings(NOTE))
    assert provenance.read(path) == NOTE
    assert provenance.describe(path) == [
        f"{path}: synthetic, a voice conversion",
        "software    vc_lightning 0.1.0",
        "made        2026-11-23T01:02:03Z",
        "checkpoint  net.safetensors 0123abcd",
        "vocoder     GriffinLim",
        "guidance    0.35",
    ]


def test_note_in_wav_strings(tmp_path, speech):
    found = info_chunks(encoding.save(tmp_path / "a.wav", speech, 16_000, strings(NOTE)))
    assert found["INAM"] == "Synthetic speech (voice conversion by vc_lightning)"
    assert found["ISFT"].startswith("vc_lightning 0.1.0")
    assert found["ICRD"] == "2026-11-23T01:02:03Z"
    sentence, values = found["ICMT"].split(" {")
    assert sentence == provenance.SENTENCE
    assert json.loads("{" + values)["checkpoint"] == "net.safetensors 0123abcd"


def test_note_keeps_samples(tmp_path, speech):
    noted = encoding.save(tmp_path / "noted.wav", speech, 22_050, strings(NOTE))
    plain = encoding.save(tmp_path / "plain.wav", speech, 22_050)
    assert soundfile.info(noted).subtype == "PCM_16"
    np.testing.assert_array_equal(*(soundfile.read(path)[0] for path in (noted, plain)))


def test_note_in_rf64(tmp_path, speech, monkeypatch):
    monkeypatch.setattr(encoding, "MAX_WAV_BYTES", 1000)
    path = encoding.save(tmp_path / "a.wav", speech, 16_000, strings(NOTE))
    assert soundfile.info(path).format == "RF64"
    assert soundfile.info(path).frames == len(speech)
    assert provenance.read(path) == NOTE


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_note_in_other_formats(tmp_path, speech, suffix):
    path = tmp_path / f"a.{suffix}"
    with soundfile.SoundFile(path, "w", 16_000, 1) as file:
        file.comment = f"{provenance.SENTENCE} " + json.dumps(vars(NOTE))
        file.write(speech)
    assert provenance.read(path) == NOTE


@pytest.mark.parametrize(
    "comment",
    [
        "recorded in the kitchen {sic}",
        '{"a": 1}',
        '{"a":' * 10_000,
        json.dumps(vars(NOTE) | {"software": "other 1.0"}),
        json.dumps(vars(NOTE) | {"software": 3}),
        json.dumps(vars(NOTE) | {"vocoder": "\x1b[2J"}),
        json.dumps(vars(NOTE) | {"guidance": "much"}),
        json.dumps(vars(NOTE) | {"more": 1}),
        json.dumps([1]),
    ],
)
def test_ignores_foreign_comments(tmp_path, comment):
    path = tmp_path / "a.wav"
    with soundfile.SoundFile(path, "w", 16_000, 1) as file:
        file.comment = comment
        file.write(np.zeros(100))
    assert provenance.read(path) is None
    (line,) = provenance.describe(path)
    assert line.startswith(f"{path}: carries no note of vc_lightning")


def test_note_survives_ffmpeg(tmp_path):
    """It keeps the title and the date of a wav, and puts the comment where nobody looks."""
    path = tmp_path / "a.mp3"
    with soundfile.SoundFile(path, "w", 16_000, 1) as file:
        file.title = provenance.TITLE
        file.write(np.zeros(100))
    assert provenance.read(path) is None
    (line,) = provenance.describe(path)
    assert line.startswith(f"{path}: synthetic, a voice conversion by vc_lightning, as its title")


def test_recordings_have_no_note():
    assert provenance.read(SOURCE) is None


@pytest.mark.parametrize("content", [b"", b"garbage" * 100])
def test_refuses_other_files(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: is not audio"):
        provenance.read(path)
    with pytest.raises(InputError, match="there is no such file"):
        provenance.read(tmp_path / "b.wav")


def test_note_of_new_conversion(tmp_path):
    path = tmp_path / "folder" / "mine.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    note = provenance.of_conversion(provenance.fingerprint(path), "WaveRNN", 1)
    assert re.fullmatch(r"vc_lightning \d+\.\d+\.\d+\S*", note.software)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", note.made)
    assert note.checkpoint == f"mine.safetensors {hashlib.sha256(b'weights').hexdigest()[:8]}"
    assert (note.vocoder, note.guidance) == ("WaveRNN", 1.0)


def test_undecodable_file_name(tmp_path):
    weights = tmp_path / "n\ne\udcff.safetensors"  # a new line, and a byte that is not UTF-8
    weights.write_bytes(b"weights")
    note = provenance.of_conversion(provenance.fingerprint(weights), "GriffinLim", 0)
    path = encoding.save(tmp_path / "a.wav", np.zeros(10), 16_000, strings(note))
    assert provenance.read(path) == note
    assert note.checkpoint.startswith("n?e?.safetensors ")
