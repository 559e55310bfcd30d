"""Comparison of two reports whose differences are known."""

import numpy as np
import pytest

from vc_lightning.common.errors import InputError
from vc_lightning.evaluation.report import comparison


def pairs(values, score="campplus/to_target", domain=None, base=None):
    return [
        {
            "source": f"{domain}{number}.wav",
            "voice": ["a.wav"],
            "target_reference": "b.wav",
            "groups": {"domain": domain} if domain else {},
            "figures": {score: value},
            "bases": {} if base is None else {score: base},
        }
        for number, value in enumerate(values)
    ]


SPREAD = [0.1, 0.9, 0.3, 0.7, 0.5, 0.2]


def compared(first, second):
    return {(one.score, one.group): one for one in comparison.differences(first, second)}


def test_steady_gain_is_better_although_pairs_differ_more():
    found = compared(pairs(SPREAD), pairs([value + 0.05 for value in SPREAD]))
    one = found["campplus/to_target", "all pairs"]
    assert (one.verdict, one.difference.n) == (comparison.BETTER, 6)
    assert one.difference.mean == pytest.approx(0.05)
    assert (one.first, one.second) == (pytest.approx(0.45), pytest.approx(0.5))


def test_interval_is_that_of_the_differences():
    """Scores that differ by 0.1 in each pair, while the pairs differ by much more."""
    first = np.random.default_rng(0).normal(0, 5, 20)
    found = compared(pairs(first), pairs(first + 0.1 + 0.01 * np.arange(20)))
    one = found["campplus/to_target", "all pairs"].difference
    assert one.mean == pytest.approx(0.195)
    assert 0.15 < one.low < one.mean < one.high < 0.25


def test_difference_of_rates_counts_characters():
    first, second = pairs([0.5, 0.0], "words/word_errors"), pairs([0.0, 0.25], "words/word_errors")
    for pair, base in zip(first, (90, 10), strict=True):
        pair["bases"] = {"words/word_errors": base}
    found = compared(first, second)
    assert found["words/word_errors", "all pairs"].difference.mean == pytest.approx(-0.425)


def test_fewer_errors_are_better_and_noise_is_unclear():
    errors = "words/character_errors"
    first, better = pairs(SPREAD, errors, base=10), pairs([v / 2 for v in SPREAD], errors, base=10)
    assert compared(first, better)[errors, "all pairs"].verdict == comparison.BETTER
    assert compared(better, first)[errors, "all pairs"].verdict == comparison.WORSE
    mixed = pairs([v + d for v, d in zip(SPREAD, [1, -1, 1, -1, 1, -1], strict=True)], errors)
    assert compared(first, mixed)[errors, "all pairs"].verdict == comparison.UNCLEAR


def test_domains_and_common_pairs_only():
    first = pairs([0.1, 0.2], domain="x") + pairs([0.3, 0.4], domain="y")
    second = pairs([0.2, 0.3, 0.9], domain="x") + pairs([0.3], domain="y")
    found = compared(first, second)
    assert {group: one.difference.n for (_, group), one in found.items()} == {
        "all pairs": 3,
        "x": 2,
    }
    text = "\n".join(comparison.lines(list(found.values()), "old", "new"))
    assert "- A: old" in text
    assert "| x | 0.150 | 0.250 | +0.100 [+0.100, +0.100] (2) | better |" in text


def test_scores_without_direction_are_not_compared():
    same = pairs(SPREAD, "campplus/before")
    assert comparison.differences(same, same) == []


def test_refuses_reports_without_common_pairs(tmp_path):
    with pytest.raises(InputError, match="0 pairs in common"):
        comparison.differences(pairs(SPREAD, domain="x"), pairs(SPREAD, domain="y"))
    path = tmp_path / "report.json"
    path.write_text('{"pairs": [{"source": "a"}]}')
    with pytest.raises(InputError, match="is not a report"):
        comparison.read(path)
