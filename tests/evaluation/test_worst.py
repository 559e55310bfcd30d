"""Ranking of the worst conversions."""

from pathlib import Path

import pytest

from vc_lightning.evaluation import worst
from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.results import Rate, ScoredConversion, Scores


def conversion(character_errors=None, **scores):
    path = Path("a.wav")
    if character_errors is not None:
        scores["words_character_errors"] = Rate(10 * character_errors, 10)
    return ScoredConversion(Pair(path, (path,), path, path, "a", "b"), None, Scores(**scores))


def voice(to_target, to_source=0.5, **others):
    both = {"similarity_to_target": to_target, "similarity_to_source": to_source}
    return conversion(similarity_speech=1.0, **both, **others)


@pytest.mark.parametrize(
    ("mos", "shortfall"), [(3.4, 0), (3.0, 0), (2.0, 0.5), (1.5, 0.75), (1.0, 1), (0.5, 1)]
)
def test_naturalness_scale(mos, shortfall):
    (found,) = worst.shortfalls(conversion(naturalness_conversion=mos)).values()
    assert found == pytest.approx(shortfall)


@pytest.mark.parametrize(
    ("to_target", "shortfall"), [(0.8, 0), (0.7, 0), (0.5, 0.5), (0.4, 0.75), (0.2, 1)]
)
def test_voice_scale(to_target, shortfall):
    assert worst.shortfalls(voice(to_target)) == {worst.MARGIN: pytest.approx(shortfall)}


def test_badness_is_that_of_worst_score():
    fine = {"character_errors": 0.1, "naturalness_conversion": 2.8}
    conversions = [
        voice(0.8, **fine),  # badness 0.1
        voice(0.8, character_errors=0.9, naturalness_conversion=3.1),  # 0.9
        voice(0.5, character_errors=0.5, naturalness_conversion=2.0),  # 0.5 by all scores
        conversion(similarity_speech=0.0, **fine),  # 1: no speech
        voice(0.8, character_errors=2.0, naturalness_conversion=1.0),  # 1 twice
    ]
    assert [index for index, _ in worst.ranked(conversions, 5)] == [4, 3, 1, 2, 0]
    assert worst.ranked(conversions, 1) == [(4, conversions[4])]
    assert worst.badness(conversions[2]) == pytest.approx((0.5, 1.5))


def test_reason_names_worst_score():
    assert worst.reason(voice(0.45, 0.5)) == (
        "similarity to the target less that to the source's speaker -0.05"
    )
    assert worst.reason(conversion(similarity_speech=0.0)) == "no speech is found in it"
    muddled = voice(0.8, character_errors=0.71, naturalness_conversion=2.9)
    assert worst.reason(muddled) == "character error rate 0.71"
    assert worst.reason(conversion(naturalness_conversion=1.5)) == "DNSMOS of the conversions 1.50"
    assert worst.reason(conversion()) == "nothing was measured"


def test_report_section():
    conversions = [voice(0.8), voice(0.4, naturalness_conversion=1.25)]
    ranked = worst.ranked(conversions, 2)
    text = list(worst.lines(ranked, [("b → a", "[sound](b.wav)"), ("a → b", "[sound](a.wav)")]))
    assert "| 001 | b → a | DNSMOS of the conversions 1.25 | 0.88 | [sound](b.wav) |" in text
    assert "| every score of | 001 | 000 |" in text
    assert "| DNSMOS of the conversions ↑ | 1.250 | – |" in text
    assert "| similarity to the target ↑ | 0.400 | 0.800 |" in text
