"""Word errors against known texts and against transcripts of the source."""

from pathlib import Path

import numpy as np
import pytest

from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.scorers import words
from vc_lightning.evaluation.scores import Rate, ScoredConversion, Scores, Sounds


class LengthRecogniser:
    """Transcribes n samples to the first n letters of "abcdefgh"; hears German in all sources."""

    name = "tiny"

    def __init__(self):
        self.heard = []

    def understands(self, language):
        return language != "xx"

    def recognised(self, wav, sample_rate, language=""):
        language = language or ("de" if len(wav) < 9 else "")
        return self.transcript(wav, sample_rate, language), language

    def transcript(self, wav, sample_rate, language="en"):
        self.heard.append((len(wav), language))
        return "abcdefgh"[: len(wav)]


def conversion(n_source, n_after, n_vocoder=None, text="", language="en", speech=1.0):
    path = Path(f"{n_source}.wav")
    pair = Pair(path, (path,), path, path, "a", "b", language=language, text=text)
    wavs = [None if n is None else np.zeros(n) for n in (n_source, n_after, n_vocoder)]
    return ScoredConversion(pair, Sounds(*wavs), Scores({"ge2e/speech": speech}))


def test_known_text_is_the_reference():
    recogniser = LengthRecogniser()
    listed = [
        conversion(6, 2, 4, text="ABCDEFGH!"),
        conversion(6, 4, 4, text="ABCDEFGH!"),
        conversion(8, 8, text="abcd", speech=0.0),
        conversion(8, 8, text="abcd", language="xx"),
    ]
    left_out = words.score(recogniser, listed, 16_000)
    first = listed[0].scores
    assert first["words/source_character_errors"] == Rate(2, 8)
    assert first["words/vocoder_character_errors"] == Rate(4, 8)
    assert first["words/character_errors"] == Rate(6, 8)
    assert first["words/added_character_errors"] == Rate(4, 8)
    assert listed[1].scores["words/added_character_errors"] == Rate(2, 8)
    assert listed[2].scores["words/added_character_errors"] == Rate(0, 4)  # 4 wrong in both
    assert left_out == {"words: tiny does not understand xx": 1}
    # Each source once, no silent conversion.
    assert [n for n, _ in recogniser.heard] == [6, 4, 2, 4, 8]
    assert listed[0].transcripts == {
        "words/source": "abcdef",
        "words/vocoder": "abcd",
        "words/conversion": "ab",
    }


def test_own_transcript_is_the_reference_without_text():
    listed = [conversion(8, 2, text="xyz"), conversion(4, 2)]
    words.score(LengthRecogniser(), listed, 16_000, "tiny_en")
    assert listed[0].scores["tiny_en/character_errors"] == Rate(6, 8)
    words.score(LengthRecogniser(), listed, 16_000)
    assert listed[1].scores["words/source_character_errors"] == Rate(0, 4)
    assert listed[1].scores["words/added_character_errors"] == Rate(2, 4)


def test_language_of_the_source_is_that_of_the_conversion():
    recogniser = LengthRecogniser()
    words.score(recogniser, [conversion(8, 2, language="")], 16_000)
    assert recogniser.heard == [(8, "de"), (2, "de")]


def test_a_source_in_no_language_is_left_out():
    listed = [conversion(9, 2, language=""), conversion(9, 3, language=""), conversion(8, 2)]
    left_out = words.score(LengthRecogniser(), listed, 16_000)
    assert left_out == {"words: tiny only repeats itself; give a language": 2}
    assert "words/character_errors" not in listed[0].scores
    assert "words/character_errors" in listed[2].scores


@pytest.mark.parametrize(("language", "n"), [("en", 1), ("zh", 0)])
def test_no_word_errors_without_spaces(language, n):
    listed = [conversion(8, 2, text="abcdefgh", language=language)]
    words.score(LengthRecogniser(), listed, 16_000)
    assert ("words/word_errors" in listed[0].scores) == bool(n)
