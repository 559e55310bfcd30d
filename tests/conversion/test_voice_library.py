"""Learned voice_library."""

import json

import numpy as np
import pytest

from vc_lightning.audio.pitch import PitchRange
from vc_lightning.common.errors import InputError
from vc_lightning.conversion import voice_library
from vc_lightning.conversion.consent import Statement
from vc_lightning.conversion.voices.voice import Voice

VOICE = Voice(np.random.default_rng(0).random(256).astype(np.float32), PitchRange(7.5, 0.25))


def test_voice_round_trips(tmp_path):
    folder = tmp_path / "new" / "folder"
    path = voice_library.save(folder, "Anna B", VOICE, "ge2e-01234567", 3, 12.34)
    assert path.stat().st_size < 10_000
    learned = voice_library.load(folder, "Anna B")
    assert np.array_equal(learned.voice.embedding, VOICE.embedding)
    assert learned.voice.embedding.dtype == np.float32
    assert learned.voice.pitch == VOICE.pitch
    assert (learned.n_recordings, learned.seconds) == (3, 12.3)
    assert voice_library.for_encoder(learned, "ge2e-01234567") is learned.voice
    with pytest.raises(InputError, match="voice Anna B was made with embeddings of ge2e-01234567"):
        voice_library.for_encoder(learned, "ge2e-76543210")


def test_voice_without_pitch(tmp_path):
    voice_library.save(tmp_path, "a", Voice(VOICE.embedding), "ge2e-0", 1, 1)
    assert voice_library.load(tmp_path, "a").voice.pitch is None


def test_lists_names_and_replaces_voices(tmp_path):
    for name in ("ж", "anna", "anna"):
        voice_library.save(tmp_path, name, VOICE, "ge2e-0", 1, 1)
    (tmp_path / "notes.txt").touch()
    assert voice_library.names(tmp_path) == ["anna", "ж"]
    assert voice_library.names(tmp_path / "missing") == []
    with pytest.raises(InputError, match=r"voice ben: not learned yet; in .* there are: anna, ж"):
        voice_library.load(tmp_path, "ben")


@pytest.mark.parametrize(
    "name", ["", ".hidden", "a/b", "../a", "a\\b", "a\n", "-a", "x" * 65, "a:b"]
)
def test_refuses_unsafe_names(tmp_path, name):
    with pytest.raises(InputError, match="name it by"):
        voice_library.path_of(tmp_path, name)


@pytest.mark.parametrize(
    "change",
    [
        {"embedding": []},
        {"embedding": [[1.0]]},
        {"embedding": ["x"]},
        {"embedding": [float("nan")]},
        {"embedding": None},
        {"pitch": {"centre": 7}},
        {"pitch": {"centre": "a", "spread": 1}},
        {"pitch": {"centre": float("inf"), "spread": 1}},
        {"pitch": 3},
        {"seconds": "long"},
        {"n_recordings": None},
    ],
)
def test_refuses_damaged_files(tmp_path, change):
    path = voice_library.save(tmp_path, "a", VOICE, "ge2e-0", 1, 1)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | change))
    with pytest.raises(InputError, match=r"a\.voice\.json: is not a learned voice"):
        voice_library.load(tmp_path, "a")
    del content[next(iter(change))]
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"a\.voice\.json: is not a learned voice"):
        voice_library.load(tmp_path, "a")


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b'"text"'])
def test_refuses_other_files(tmp_path, content):
    voice_library.path_of(tmp_path, "a").write_bytes(content)
    with pytest.raises(InputError, match="is not a learned voice"):
        voice_library.load(tmp_path, "a")


def test_keeps_consent_maker_and_licence(tmp_path, speech):
    spoken = Statement("", speech, "2026-11-24")
    voice_library.save(
        tmp_path, "a", VOICE, "ge2e-0", 1, 1, made_by="Ben", licence="CC0", consent=spoken
    )
    learned = voice_library.load(tmp_path, "a")
    assert (learned.made_by, learned.licence) == ("Ben", "CC0")
    assert learned.consent.recording == tmp_path / "a.consent.flac"
    assert voice_library.names(tmp_path) == ["a"]
    voice_library.save(
        tmp_path, "a", VOICE, "ge2e-0", 1, 1, consent=Statement("I agree", None, "today")
    )
    assert voice_library.load(tmp_path, "a").consent.text == "I agree"
    assert not (tmp_path / "a.consent.flac").exists()


def test_loads_voices_of_earlier_versions(tmp_path):
    path = voice_library.save(tmp_path, "a", VOICE, "ge2e-0", 1, 1)
    content = json.loads(path.read_text())
    for key in ("made_by", "licence", "consent"):
        del content[key]
    path.write_text(json.dumps(content))
    learned = voice_library.load(tmp_path, "a")
    assert (learned.made_by, learned.licence, learned.consent) == ("", "", None)
