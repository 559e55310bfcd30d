"""Notes in the files of conversions."""

import hashlib
import json
import re
import struct
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from conftest import SOURCE, write_wav

from vc_lightning import audio, provenance, tape
from vc_lightning.errors import InputError
from vc_lightning.provenance import Provenance

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


def test_the_note_comes_back(tmp_path, speech):
    path = provenance.save(tmp_path / "a.wav", speech, 16_000, NOTE)
    assert provenance.read(path) == NOTE
    assert provenance.describe(path) == [
        f"{path}: synthetic, a voice conversion",
        "software    vc_lightning 0.1.0",
        "made        2026-11-23T01:02:03Z",
        "checkpoint  net.safetensors 0123abcd",
        "vocoder     GriffinLim",
        "guidance    0.35",
    ]


def test_the_note_is_in_the_strings_of_the_wav(tmp_path, speech):
    strings = info_chunks(provenance.save(tmp_path / "a.wav", speech, 16_000, NOTE))
    assert strings["INAM"] == "Synthetic speech (voice conversion by vc_lightning)"
    assert strings["ISFT"].startswith("vc_lightning 0.1.0")
    assert strings["ICRD"] == "2026-11-23T01:02:03Z"
    sentence, values = strings["ICMT"].split(" {")
    assert sentence == provenance.SENTENCE
    assert json.loads("{" + values)["checkpoint"] == "net.safetensors 0123abcd"


@pytest.mark.parametrize("gain", [0.5, 7.0])
def test_the_samples_are_those_of_audio_save(tmp_path, speech, gain):
    wav = speech * np.float32(gain)
    noted = provenance.save(tmp_path / "noted.wav", wav, 22_050, NOTE)
    plain = audio.save(tmp_path / "plain.wav", wav, 22_050)
    assert soundfile.info(noted).subtype == "PCM_16"
    assert soundfile.info(noted).samplerate == 22_050
    np.testing.assert_array_equal(
        soundfile.read(noted, dtype="int16")[0], soundfile.read(plain, dtype="int16")[0]
    )


def test_a_memory_map_is_read_in_blocks(tmp_path):
    n = 2 * tape.BLOCK + 1000
    wav = np.memmap(tmp_path / "wav.f32", np.float32, "w+", shape=(n,))
    wav[:] = np.linspace(-2, 2, n)
    path = provenance.save(tmp_path / "a.wav", wav, 16_000, NOTE)
    np.testing.assert_allclose(soundfile.read(path)[0], np.linspace(-1, 1, n), atol=2**-15)


def test_an_empty_wav_is_written(tmp_path):
    path = provenance.save(tmp_path / "a.wav", np.zeros(0, np.float32), 16_000, NOTE)
    assert soundfile.info(path).frames == 0
    assert provenance.read(path) == NOTE


def test_above_the_size_of_a_wav_it_becomes_rf64(tmp_path, speech, monkeypatch):
    monkeypatch.setattr(provenance, "MAX_WAV_BYTES", 1000)
    path = provenance.save(tmp_path / "a.wav", speech, 16_000, NOTE)
    assert soundfile.info(path).format == "RF64"
    assert soundfile.info(path).frames == len(speech)
    assert provenance.read(path) == NOTE


def test_nothing_is_half_written(tmp_path):
    path = write_wav(tmp_path / "a.wav", np.full(100, 0.5))
    before = path.read_bytes()
    with pytest.raises(TypeError):
        provenance.save(path, np.zeros(100), 16_000, replace(NOTE, guidance=object()))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3"])
def test_other_formats_are_read_too(tmp_path, speech, suffix):
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
def test_comments_of_others_are_no_note(tmp_path, comment):
    path = tmp_path / "a.wav"
    with soundfile.SoundFile(path, "w", 16_000, 1) as file:
        file.comment = comment
        file.write(np.zeros(100))
    assert provenance.read(path) is None
    (line,) = provenance.describe(path)
    assert line.startswith(f"{path}: carries no note of vc_lightning")


def test_what_ffmpeg_makes_of_it_is_still_known(tmp_path):
    """It keeps the title and the date of a wav, and puts the comment where nobody looks."""
    path = tmp_path / "a.mp3"
    with soundfile.SoundFile(path, "w", 16_000, 1) as file:
        file.title = provenance.TITLE
        file.write(np.zeros(100))
    assert provenance.read(path) is None
    (line,) = provenance.describe(path)
    assert line.startswith(f"{path}: synthetic, a voice conversion by vc_lightning, as its title")


def test_recordings_carry_no_note():
    assert provenance.read(SOURCE) is None


@pytest.mark.parametrize("content", [b"", b"garbage" * 100])
def test_what_is_not_audio_is_refused_by_name(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: is not audio"):
        provenance.read(path)
    with pytest.raises(InputError, match="there is no such file"):
        provenance.read(tmp_path / "b.wav")


def test_a_conversion_now(tmp_path):
    path = tmp_path / "folder" / "mine.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    note = provenance.of_conversion(path, "WaveRNN", 1)
    assert re.fullmatch(r"vc_lightning \d+\.\d+\.\d+\S*", note.software)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", note.made)
    assert note.checkpoint == f"mine.safetensors {hashlib.sha256(b'weights').hexdigest()[:8]}"
    assert (note.vocoder, note.guidance) == ("WaveRNN", 1.0)


def test_a_name_that_is_no_text_is_kept_readable(tmp_path):
    weights = tmp_path / "n\ne\udcff.safetensors"  # a new line, and a byte that is not UTF-8
    weights.write_bytes(b"weights")
    note = provenance.of_conversion(weights, "GriffinLim", 0)
    path = provenance.save(tmp_path / "a.wav", np.zeros(10), 16_000, note)
    assert provenance.read(path) == note
    assert note.checkpoint.startswith("n?e?.safetensors ")
