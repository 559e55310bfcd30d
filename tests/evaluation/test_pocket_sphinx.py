"""The second judge of words."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from vc_lightning.evaluation import pocket_sphinx
from vc_lightning.evaluation import scorers as judges
from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.pocket_sphinx import PocketSphinx
from vc_lightning.evaluation.results import Outcome
from vc_lightning.evaluation.scorers import MissingJudgeError


@pytest.fixture(scope="module")
def recogniser():
    return PocketSphinx()


def test_it_hears_much_of_what_whisper_hears(recogniser, speech):
    reference = judges.Recogniser().transcript(speech, 16_000)
    heard = recogniser.transcript(speech, 16_000)
    n_errors, length = judges.character_errors(reference, heard)
    assert n_errors / length < 0.4
    assert heard == heard.lower().strip()
    assert recogniser.transcript(speech, 16_000) == heard


def test_it_hears_loud_and_quiet_recordings_of_any_rate(recogniser, speech):
    wav = speech[:48_000]
    heard = recogniser.transcript(wav, 16_000)
    assert len(heard.split()) > 3
    assert recogniser.transcript(8 * wav, 16_000) == heard
    assert recogniser.transcript(0.001 * wav, 16_000) == heard
    assert len(recogniser.transcript(wav.repeat(2), 32_000).split()) > 3


def test_silence_has_no_words(recogniser):
    assert recogniser.transcript(np.zeros(16_000, dtype=np.float32), 16_000) == ""


def test_it_understands_english_only(recogniser):
    answers = [recogniser.understands(language) for language in ("en", "", "de")]
    assert answers == [True, True, False]


def test_texts_are_compared_without_capitals_and_punctuation():
    assert judges.plain_text(" Well,  it's HIM! ") == "well its him"


@pytest.mark.parametrize("package", ["pocketsphinx", "jiwer"])
def test_a_package_that_is_not_installed_is_named(monkeypatch, package):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else find(name)
    )
    with pytest.raises(MissingJudgeError, match=rf"pocketsphinx: {package} not installed; pip .*"):
        PocketSphinx()


class Hearing(PocketSphinx):
    """Understands as many letters of "abcdefgh" as a recording has samples."""

    def __init__(self):
        self.asked = []

    def plain(self, text):
        return text.lower()

    def transcript(self, wav, sample_rate, language="en"):
        self.asked.append(len(wav))
        return "abcdefgh"[: len(wav)]


def outcome(source, n_source, n_after, text="", language="en", whisper="", speech=1.0):
    path = Path(source)
    pair = Pair(path, (path,), path, path, "a", "b", language=language, text=text)
    wavs = [np.zeros(n, dtype=np.float32) for n in (n_source, 0, n_after)]
    words = {"source": whisper} if whisper else {}
    return Outcome(pair, *wavs, {"similarity/speech": speech}, {}, words)


def test_errors_on_the_source_stand_beside_those_on_the_conversion():
    recogniser = Hearing()
    outcomes = [
        outcome("a.wav", 8, 4, text="ABCDEFGH", whisper="wrong"),
        outcome("a.wav", 8, 2, text="ABCDEFGH"),
        outcome("b.wav", 6, 3, whisper="abcdefgh"),
        outcome("c.wav", 8, 8, text="abcd", speech=0.0),
        outcome("d.wav", 8, 8, text="abcd", language="de"),
        outcome("e.wav", 8, 8),
    ]
    left_out = pocket_sphinx.judge_words(recogniser, outcomes, 16_000)
    found = [
        [o.values.get(f"pocketsphinx/{name}") for name in ("source", "conversion")]
        for o in outcomes
    ]
    assert found == [[0, 0.5], [0, 0.75], [0.25, 0.625], [1, 1], [None, None], [None, None]]
    assert outcomes[2].weights["pocketsphinx/conversion"] == 8
    assert outcomes[2].words["pocketsphinx_conversion"] == "abc"
    assert outcomes[2].words["source"] == "abcdefgh"
    assert recogniser.asked == [8, 4, 2, 6, 3, 8]  # each source once; no speech, no words
    assert left_out == [
        "pocketsphinx: understands English only (pairs: 1)",
        "pocketsphinx: nobody wrote down what is said; add words to judges, or a column text "
        "(pairs: 1)",
    ]
