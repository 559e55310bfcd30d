"""PocketSphinx, the second recogniser."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.scorers.availability import MissingScorerError
from vc_lightning.evaluation.scorers.recognisers import pocket_sphinx, texts, whisper
from vc_lightning.evaluation.scorers.recognisers.pocket_sphinx import PocketSphinx
from vc_lightning.evaluation.scores import Rate, ScoredConversion, Scores, Sounds


@pytest.fixture(scope="module")
def recogniser():
    return PocketSphinx()


def test_agrees_with_whisper(recogniser, speech):
    reference = whisper.Recogniser("tiny.en").transcript(speech, 16_000, "en")
    transcript = recogniser.transcript(speech, 16_000)
    assert texts.character_errors(reference, transcript).value < 0.4
    assert transcript == transcript.lower().strip()
    assert recogniser.transcript(speech, 16_000) == transcript


def test_any_level_and_rate(recogniser, speech):
    wav = speech[:48_000]
    transcript = recogniser.transcript(wav, 16_000)
    assert len(transcript.split()) > 3
    assert recogniser.transcript(8 * wav, 16_000) == transcript
    assert recogniser.transcript(0.001 * wav, 16_000) == transcript
    assert len(recogniser.transcript(wav.repeat(2), 32_000).split()) > 3


def test_silence_gives_no_words(recogniser):
    assert recogniser.transcript(np.zeros(16_000, dtype=np.float32), 16_000) == ""


def test_ignores_case_and_punctuation():
    assert texts.plain_text(" Well,  it's HIM! ") == "well its him"


@pytest.mark.parametrize("package", ["pocketsphinx", "jiwer"])
def test_missing_package_is_named(monkeypatch, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )
    with pytest.raises(MissingScorerError, match=rf"pocketsphinx: {package} not installed; pip .*"):
        PocketSphinx()


class LengthRecogniser(PocketSphinx):
    """Transcribes n samples to the first n letters of "abcdefgh"."""

    def __init__(self):
        self.lengths = []

    def transcript(self, wav, sample_rate, language="en"):
        self.lengths.append(len(wav))
        return "abcdefgh"[: len(wav)]


def conversion(source, n_source, n_after, text="", language="en", whisper=None, speech=1.0):
    path = Path(source)
    pair = Pair(path, (path,), path, path, "a", "b", language=language, text=text)
    sounds = Sounds(*(np.zeros(n, dtype=np.float32) for n in (n_source, n_after)))
    transcripts = {} if whisper is None else {"words/source": whisper}
    return ScoredConversion(pair, sounds, Scores({"ge2e/speech": speech}), transcripts)


def test_reports_errors_of_source_and_conversion():
    recogniser = LengthRecogniser()
    conversions = [
        conversion("a.wav", 8, 4, text="ABCDEFGH", whisper="wrong"),
        conversion("a.wav", 8, 2, text="ABCDEFGH"),
        conversion("b.wav", 6, 3, whisper="abcdefgh", language=""),
        conversion("c.wav", 8, 8, text="abcd", speech=0.0),
        conversion("d.wav", 8, 8, text="abcd", language="de"),
        conversion("e.wav", 8, 8),
    ]
    left_out = pocket_sphinx.score(recogniser, conversions, 16_000)
    found = [
        [c.scores.value(f"pocketsphinx/{name}") for name in ("source", "conversion")]
        for c in conversions
    ]
    assert found == [[0, 0.5], [0, 0.75], [0.25, 0.625], [1, 1], [None, None], [None, None]]
    assert conversions[2].scores["pocketsphinx/conversion"] == Rate(5, 8)
    assert conversions[2].transcripts["pocketsphinx/conversion"] == "abc"
    assert conversions[2].transcripts["words/source"] == "abcdefgh"
    assert recogniser.lengths == [8, 4, 2, 6, 3, 8]  # each source once, no silent conversion
    assert left_out == {
        "pocketsphinx: understands English only": 1,
        "pocketsphinx: there is no text; add words to scorers=, or a column text": 1,
    }
