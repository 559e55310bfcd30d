"""Learned voices that people share."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vc_lightning.audio.pitch import PitchRange
from vc_lightning.common.errors import InputError
from vc_lightning.conversion import consent, voice_files, voice_library
from vc_lightning.conversion.consent import Statement
from vc_lightning.conversion.voices.voice import Voice

ENCODER = "ge2e-01234567"
AGREED = Statement("I, Anna, agree.", None, "2026-11-24")


def unit_vector():
    vector = np.random.default_rng(0).standard_normal(256)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


VOICE = Voice(unit_vector(), PitchRange(7.5, 0.25))


@pytest.fixture
def learned(tmp_path):
    """A voice in a folder of one person."""
    folder = tmp_path / "mine"
    voice_library.save(
        folder, "Anna", VOICE, ENCODER, 3, 12.3, made_by="Ben", licence="CC0", consent=AGREED
    )
    return voice_library.load(folder, "Anna")


@pytest.fixture
def shared(learned, tmp_path):
    """The same as a file."""
    return voice_files.export(learned, AGREED, tmp_path / "anna.safetensors")


def test_exported_voice_round_trips(tmp_path, learned, shared):
    arrived = voice_files.add(tmp_path / "theirs", shared, None, ENCODER)
    assert np.array_equal(arrived.voice.embedding, VOICE.embedding)
    assert arrived.voice.pitch == VOICE.pitch
    assert replace(arrived, voice=learned.voice) == learned
    assert (arrived.made_by, arrived.licence) == ("Ben", "CC0")
    assert arrived.consent.text == "I, Anna, agree."
    assert shared.stat().st_size < 3000


def test_exports_spoken_consent(tmp_path, learned, speech):
    spoken = Statement("", speech, "2026-11-24")
    path = voice_files.export(learned, spoken, tmp_path / "anna.safetensors")
    arrived = voice_files.add(tmp_path / "theirs", path, "Anna 2", ENCODER)
    assert arrived.consent.recording == tmp_path / "theirs" / "Anna 2.consent.flac"
    np.testing.assert_allclose(consent.restate(arrived.consent).wav, speech, atol=1e-4)


def test_voice_without_pitch(tmp_path, learned):
    learned = replace(learned, voice=Voice(VOICE.embedding))
    path = voice_files.export(learned, AGREED, tmp_path / "a.safetensors")
    assert voice_files.add(tmp_path / "theirs", path, None, ENCODER).voice.pitch is None


def test_import_overwrites_nothing(tmp_path, learned, shared):
    before = shared.read_bytes()
    kept = voice_library.path_of(tmp_path / "mine", "Anna")
    stored = kept.read_bytes()
    with pytest.raises(InputError, match=r"anna\.safetensors: exists already"):
        voice_files.export(learned, AGREED, shared)
    assert shared.read_bytes() == before
    with pytest.raises(InputError, match=r"there is a voice Anna already; .* voices\.name="):
        voice_files.add(tmp_path / "mine", shared, None, ENCODER)
    assert kept.read_bytes() == stored
    assert voice_files.add(tmp_path / "mine", shared, "Anna 2", ENCODER).name == "Anna 2"


def test_export_needs_consent(tmp_path, learned):
    with pytest.raises(InputError, match=r"only with its speaker's consent; add voices\.consent="):
        voice_files.export(learned, None, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_refuses_other_encoder(tmp_path, shared):
    with pytest.raises(InputError, match="made with embeddings of ge2e-01234567"):
        voice_files.add(tmp_path / "theirs", shared, None, "ge2e-76543210")
    assert not (tmp_path / "theirs").exists()


def rewritten(path, tensors=None, **changes):
    """The file with other tensors and header entries."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(json.loads(file.read(size))["__metadata__"][voice_files.KEY])
    save_file(
        load_file(path) | (tensors or {}), path, {voice_files.KEY: json.dumps(header | changes)}
    )


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
        ({"more": np.zeros(1)}, "unknown tensor 'more'"),
        ({"more": np.zeros(500_000)}, "has 40.* bytes"),
    ],
)
def test_refuses_unknown_tensors(tmp_path, shared, tensors, reason):
    rewritten(shared, tensors)
    with pytest.raises(InputError, match=rf"anna\.safetensors: .*{reason}"):
        voice_files.add(tmp_path / "theirs", shared, None, ENCODER)
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
        voice_files.add(tmp_path / "theirs", shared, None, ENCODER)
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
        with pytest.raises(InputError, match=r"anna\.safetensors: is not a shared voice"):
            voice_files.add(tmp_path / name, shared, None, ENCODER)
    shared.unlink()
    with pytest.raises(InputError, match="no such file"):
        voice_files.read(shared)


def test_shows_missing_consent(tmp_path, shared):
    rewritten(shared, consent="")
    assert voice_files.add(tmp_path / "theirs", shared, None, ENCODER).consent is None
