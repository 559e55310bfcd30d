"""The file of a voice: round trips, damage, and the files of version 0.3."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vc_lightning.common.errors import InputError
from vc_lightning.conversion.voices import file
from vc_lightning.conversion.voices.consent import Consent
from vc_lightning.conversion.voices.shelf import VoiceShelf
from vc_lightning.conversion.voices.voice import Voice
from voice_helpers import ANNA, ENCODER, VOICE, old_files, require_same


@pytest.fixture
def shared(tmp_path):
    """A file that somebody shares."""
    return VoiceShelf(tmp_path / "mine").export(ANNA, tmp_path / "anna.safetensors")


def test_voice_round_trips(shared):
    require_same(file.read(shared), ANNA)
    assert shared.stat().st_size < 3000


def test_spoken_consent_round_trips(tmp_path, speech):
    path = file.write(replace(ANNA, consent=Consent("", "today", speech)), tmp_path / "a")
    given = file.read(path).consent
    assert (given.text, given.given) == ("", "today")
    np.testing.assert_allclose(given.wav, speech, atol=1e-4)


def test_voice_without_pitch(tmp_path):
    unpitched = replace(ANNA, voice=Voice(VOICE.embedding))
    assert file.read(file.write(unpitched, tmp_path / "a")).voice.pitch is None


def test_reference_round_trips(tmp_path):
    reference = np.random.default_rng(0).random((1900, 208), np.float32)
    voice = replace(VOICE, reference=reference)
    attending = replace(ANNA, voice=voice, network="autovc.safetensors 01234567")
    path = file.write(attending, tmp_path / "a")
    require_same(file.read(path), attending)
    assert path.stat().st_size < 800_000


def test_reads_voices_without_the_name_of_a_network(shared):
    """Those of 0.3 and before have no reference."""
    with shared.open("rb") as opened:
        (size,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(json.loads(opened.read(size))["__metadata__"][file.KEY])
    assert header.pop("network") == ""
    save_file(load_file(shared), shared, {file.KEY: json.dumps(header)})
    require_same(file.read(shared), ANNA)


def test_reads_voices_of_0_3(tmp_path, speech):
    old_files(tmp_path)
    shelf = VoiceShelf(tmp_path)
    require_same(shelf.get("Anna"), ANNA)
    old_files(tmp_path, speech)
    np.testing.assert_allclose(shelf.get("Anna").consent.wav, speech, atol=1e-4)
    (tmp_path / "Anna.consent.flac").write_bytes(b"another")
    with pytest.raises(InputError, match=r"Anna\.consent\.flac is not its stored consent"):
        shelf.get("Anna")


def test_reads_voices_before_0_3(tmp_path):
    old_files(tmp_path, made_by="absent", licence="absent", consent="absent", pitch=None)
    learned = VoiceShelf(tmp_path).get("Anna")
    assert (learned.made_by, learned.licence, learned.consent) == ("", "", None)
    assert learned.voice.pitch is None


@pytest.mark.parametrize(
    "change",
    [
        {"embedding": []},
        {"embedding": [[1.0]]},
        {"embedding": ["x"]},
        {"embedding": [float("nan")]},
        {"embedding": None},
        {"embedding": "absent"},
        {"pitch": {"centre": 7}},
        {"pitch": {"centre": "a", "spread": 1}},
        {"pitch": {"centre": float("inf"), "spread": 1}},
        {"pitch": 3},
        {"pitch": "absent"},
        {"seconds": "long"},
        {"n_recordings": None},
        {"consent": {"text": ""}},
    ],
)
def test_refuses_damaged_files_of_0_3(tmp_path, change):
    old_files(tmp_path, **change)
    with pytest.raises(InputError, match=r"Anna\.voice\.json: is not a learned voice"):
        VoiceShelf(tmp_path).get("Anna")


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b'"text"'])
def test_refuses_other_files(tmp_path, content):
    (tmp_path / "Anna.voice.json").write_bytes(content)
    with pytest.raises(InputError, match="is not a learned voice"):
        VoiceShelf(tmp_path).get("Anna")


def rewritten(path, tensors=None, **changes):
    """The file with other tensors and header entries."""
    with path.open("rb") as opened:
        (size,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(json.loads(opened.read(size))["__metadata__"][file.KEY])
    save_file(load_file(path) | (tensors or {}), path, {file.KEY: json.dumps(header | changes)})


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"embedding": VOICE.embedding * np.nan}, "not finite"),
        ({"embedding": VOICE.embedding * np.inf}, "not finite"),
        ({"embedding": VOICE.embedding * np.float32(1.01)}, "has the length 1.01, not 1"),
        ({"embedding": VOICE.embedding * 0}, "has the length 0, not 1"),
        ({"embedding": VOICE.embedding[None]}, r"\(1, 256\)"),
        ({"embedding": VOICE.embedding.astype(np.float64)}, "float64"),
        ({"embedding": np.eye(1, 5000, dtype=np.float32)[0]}, r"\(5000,\)"),
        ({"embedding": np.zeros(0, np.float32)}, r"\(0,\)"),
        ({"pitch": np.array([np.nan, 1.0])}, "its pitch"),
        ({"pitch": np.array([20.0, 1.0])}, "its pitch"),
        ({"pitch": np.array([7.0, -1.0])}, "its pitch"),
        ({"pitch": np.array([7.0])}, "its pitch"),
        ({"consent": np.zeros(61 * 16_000, np.int16)}, "its consent"),
        ({"consent": np.zeros(100, np.float32)}, "its consent"),
        ({"reference": np.zeros((9, 208), np.float16)}, "does not name the network"),
        ({"reference": np.zeros((9, 208), np.float32)}, "its reference is float32"),
        ({"reference": np.zeros(9, np.float16)}, r"its reference is float16 \(9,\)"),
        ({"reference": np.zeros((0, 208), np.float16)}, r"its reference is float16 \(0, 208\)"),
        ({"reference": np.full((9, 208), np.inf, np.float16)}, "its reference is not finite"),
        ({"more": np.zeros(1)}, "unknown tensor 'more'"),
        ({"more": np.zeros(500_000)}, "has 40.* bytes"),
    ],
)
def test_refuses_unknown_tensors(tmp_path, shared, tensors, reason):
    rewritten(shared, tensors)
    with pytest.raises(InputError, match=rf"anna\.safetensors: .*{reason}"):
        VoiceShelf(tmp_path / "theirs").add(shared, None, ENCODER)
    assert not (tmp_path / "theirs").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../../evil"},
        {"name": 3},
        {"name": ""},
        {"made_by": "\x1b[2J"},
        {"licence": "a" * 1001},
        {"speaker_encoder": None},
        {"network": 3},
        {"consent": "one\ntwo"},
        {"n_recordings": 0},
        {"n_recordings": 1e99},
        {"seconds": float("nan")},
        {"seconds": "long"},
    ],
)
def test_refuses_invalid_headers(tmp_path, shared, changes):
    rewritten(shared, **changes)
    with pytest.raises(InputError):
        VoiceShelf(tmp_path / "theirs").add(shared, None, ENCODER)
    assert not (tmp_path / "theirs").exists()


def test_refuses_damaged_files(tmp_path, shared):
    whole = shared.read_bytes()
    (size,) = struct.unpack("<Q", whole[:8])
    for name, content in {
        "empty": b"",
        "cut": whole[:-1],
        "header cut": whole[: size // 2],
        "huge header": struct.pack("<Q", 2**62) + whole[8:],
        "long header": struct.pack("<Q", 10**6) + b" " * 10**6,
        "no metadata": whole.replace(b"vc_lightning_voice", b"vc_lightning_vowel"),
        "text": b"no voice at all, just words",
        "nested": struct.pack("<Q", 40_000) + b"[" * 40_000,
        "longer": whole + b"\0",
    }.items():
        shared.write_bytes(content)
        with pytest.raises(InputError, match=r"anna\.safetensors: is not a voice"):
            VoiceShelf(tmp_path / name).add(shared, None, ENCODER)
    shared.unlink()
    with pytest.raises(InputError, match="no such file"):
        file.read(shared)


def test_shows_missing_consent(tmp_path, shared):
    rewritten(shared, consent="")
    assert VoiceShelf(tmp_path / "theirs").add(shared, None, ENCODER).consent is None
