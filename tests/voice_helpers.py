"""A voice, and its files as version 0.3 stored them."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import soundfile

from vc_lightning.audio.pitch import PitchRange
from vc_lightning.conversion.voices.consent import Consent
from vc_lightning.conversion.voices.file import LearnedVoice
from vc_lightning.conversion.voices.voice import Voice

ENCODER = "ge2e-01234567"


def unit_vector():
    vector = np.random.default_rng(0).standard_normal(256)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


VOICE = Voice(unit_vector(), PitchRange(7.5, 0.25))
AGREED = Consent("I, Anna, agree.", "2026-11-24")
ANNA = LearnedVoice("Anna", VOICE, ENCODER, 3, 12.3, "2026-11-24", "Ben", "CC0", AGREED)


def require_same(one, other):
    assert replace(one, voice=other.voice) == other
    assert np.array_equal(one.voice.embedding, other.voice.embedding)
    assert one.voice.embedding.dtype == np.float32
    assert one.voice.pitch == other.voice.pitch
    assert (one.voice.reference is None) == (other.voice.reference is None)
    if one.voice.reference is not None:
        np.testing.assert_allclose(one.voice.reference, other.voice.reference, atol=1e-3)
        assert one.voice.reference.dtype == np.float32


def old_files(folder, spoken=None, **changes):
    """A voice as version 0.3 stored it: JSON, and the recording of the consent beside it."""
    folder.mkdir(exist_ok=True)
    consent = {"text": "I, Anna, agree.", "given": "2026-11-24", "seconds": 0.0, "sha256": ""}
    if spoken is not None:
        recording = folder / "Anna.consent.flac"
        soundfile.write(recording, spoken, 16_000)
        sha256 = hashlib.sha256(recording.read_bytes()).hexdigest()
        consent |= {"text": "", "seconds": 6.0, "sha256": sha256}
    content = {
        "embedding": [float(number) for number in VOICE.embedding],
        "pitch": {"centre": 7.5, "spread": 0.25},
        "speaker_encoder": ENCODER,
        "n_recordings": 3,
        "seconds": 12.3,
        "learned": "2026-11-24",
        "made_by": "Ben",
        "licence": "CC0",
        "consent": consent,
    }
    content = {key: value for key, value in (content | changes).items() if value != "absent"}
    path = folder / "Anna.voice.json"
    path.write_text(json.dumps(content))
    return path
