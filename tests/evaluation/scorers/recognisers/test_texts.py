"""Errors of transcripts."""

import pytest

from vc_lightning.evaluation.scorers.recognisers import texts
from vc_lightning.evaluation.scores import Rate


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
    assert texts.word_errors(reference, transcript) == Rate(*words)
    assert texts.character_errors(reference, transcript) == Rate(*characters)


def test_plain_text_in_any_script():
    assert texts.plain_text(" Well,  it's HIM! ") == "well its him"
    assert texts.plain_text("香农山是一个城市。") == "香农山是一个城市"
    assert texts.plain_text("¿Qué? «Ça va…»") == "qué ça va"
