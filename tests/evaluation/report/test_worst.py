"""Ranking of the worst conversions."""

from pathlib import Path

import pytest

from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.report import worst
from vc_lightning.evaluation.scores import Rate, ScoredConversion, Scores


def conversion(domain="", added=None, mos=None, voice=None, **scores):
    """A conversion with added character errors, DistillMOS, and cosines by CAM++."""
    path = Path("a.wav")
    found = {name.replace("__", "/"): score for name, score in scores.items()}
    if added is not None:
        found["words/added_character_errors"] = Rate(10 * added, 10)
    if mos is not None:
        found["distillmos/conversion"] = mos
    if voice is not None:
        found |= {"campplus/to_target": voice, "campplus/to_source": 0.5, "ge2e/speech": 1.0}
    pair = Pair(path, (path,), path, path, "a", "b", groups={"domain": domain} if domain else {})
    return ScoredConversion(pair, None, Scores(found))


@pytest.mark.parametrize(
    ("mos", "shortfall"), [(4.5, 0), (4.0, 0), (2.75, 0.5), (1.5, 1), (1.0, 1)]
)
def test_naturalness_scale(mos, shortfall):
    (found,) = worst.shortfalls(conversion(mos=mos)).values()
    assert found == pytest.approx(shortfall)


@pytest.mark.parametrize(
    ("to_target", "shortfall"), [(0.8, 0), (0.7, 0), (0.5, 0.5), (0.4, 0.75), (0.2, 1)]
)
def test_voice_scale(to_target, shortfall):
    (found,) = worst.shortfalls(conversion(voice=to_target)).values()
    assert found == pytest.approx(shortfall)


def test_outside_judges_come_before_those_that_know_the_network():
    known = {"ge2e__to_target": 0.9, "ge2e__to_source": 0.1, "dnsmos__conversion": 3.5}
    assert worst.shortfalls(conversion(**known)) == {
        "DNSMOS 3.50": 0,
        f"GE2E, {worst.MARGIN} 0.80": 0,
    }
    assert worst.badness(conversion(mos=1.5, voice=0.2, **known)) == (1, 2)


def test_badness_is_that_of_worst_score():
    fine = {"added": 0.1, "mos": 3.9}
    conversions = [
        conversion(voice=0.8, **fine),  # badness 0.1
        conversion(voice=0.8, added=0.9, mos=4.1),  # 0.9
        conversion(voice=0.5, added=0.5, mos=2.75),  # 0.5 by all scores
        conversion(ge2e__speech=0.0, **fine),  # 1: no speech
        conversion(voice=0.8, added=2.0, mos=1.0),  # 1 twice
    ]
    assert [index for index, _ in worst.ranked(conversions, 5)] == [4, 3, 1, 2, 0]
    assert worst.ranked(conversions, 1) == [(4, conversions[4])]
    assert worst.badness(conversions[2]) == pytest.approx((0.5, 1.5))


def test_worst_of_each_domain():
    listed = [conversion(name, mos=mos) for name, mos in [("x", 2), ("y", 4), ("x", 1), ("y", 3)]]
    assert [index for index, _ in worst.ranked(listed, 1)] == [2, 3]
    assert [index for index, _ in worst.ranked(listed, 2)] == [2, 0, 3, 1]


def test_reason_names_worst_score():
    assert worst.reason(conversion(voice=0.45)) == f"CAM++, {worst.MARGIN} -0.05"
    assert worst.reason(conversion(ge2e__speech=0.0)) == "no speech is found in it"
    muddled = conversion(voice=0.8, added=0.71, mos=3.9)
    assert worst.reason(muddled) == "added character errors 0.71"
    assert worst.reason(conversion(mos=1.5)) == "DistillMOS 1.50"
    assert worst.reason(conversion()) == "nothing was measured"


def test_report_section():
    conversions = [conversion(voice=0.8), conversion(voice=0.4, mos=1.5)]
    ranked = worst.ranked(conversions, 2)
    text = list(worst.lines(ranked, [("b → a", "[sound](b.wav)"), ("a → b", "[sound](a.wav)")]))
    assert "| 001 | b → a | DistillMOS 1.50 | 1.00 | [sound](b.wav) |" in text
    assert "| every score of | 001 | 000 |" in text
    assert "| distillmos: DistillMOS of the conversions ↑ | 1.500 | – |" in text
    assert "| campplus: similarity to the target ↑ | 0.400 | 0.800 |" in text
