"""Compare the reports of two converters on the same pairs: is one better?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vc_lightning.common.errors import InputError
from vc_lightning.common.files import read_json, require_file
from vc_lightning.evaluation.pairs import DOMAIN
from vc_lightning.evaluation.scorers.voices import EVERYWHERE
from vc_lightning.evaluation.scores import SECTIONS, TITLES
from vc_lightning.evaluation.statistics import Figure, figure

BETTER, WORSE, UNCLEAR = "better", "worse", "no clear difference"
IDENTITY = ("source", "voice", "target_reference")  # of a pair
MIN_PAIRS = 2  # of which an interval can be computed


@dataclass(frozen=True)
class Difference:
    """Difference of one score between two converters.

    Attributes:
        score: Name of the score, a key of `TITLES`.
        group: Domain of the pairs, or `EVERYWHERE`.
        first: Mean of the first converter.
        second: Mean of the second converter, on the same pairs.
        difference: Mean of second − first with its 95 % paired bootstrap interval.
    """

    score: str
    group: str
    first: float
    second: float
    difference: Figure

    @property
    def verdict(self) -> str:
        """What the second converter is: `BETTER`, `WORSE` or `UNCLEAR`."""
        low, high = self.difference.low, self.difference.high
        if low is None or high is None or low <= 0 <= high:
            return UNCLEAR
        return BETTER if (low > 0) == TITLES[self.score].endswith("↑") else WORSE


def read(path: Path) -> list[dict[str, Any]]:
    """Read the pairs of a report.json.

    Raises:
        InputError: The file is missing, or not a report of this version.
    """
    require_file(path)
    try:
        pairs = read_json(path)["pairs"]
        if all({*IDENTITY, "figures", "bases", "groups"} <= pair.keys() for pair in pairs):
            return pairs
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise InputError(
        f"compare: {path} is not a report.json of this version; make it again by evaluate.py"
    )


def differences(
    first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]
) -> list[Difference]:
    """Compare all scores that have a direction, on the pairs (see `read`) that both reports have.

    Raises:
        InputError: They have no two pairs in common.
    """
    ours = {_identity(pair): pair for pair in second}
    both = [(pair, ours[_identity(pair)]) for pair in first if _identity(pair) in ours]
    if len(both) < MIN_PAIRS:
        raise InputError(
            f"compare: the reports have {len(both)} pairs in common; evaluate both converters on "
            "the same data.pairs"
        )
    groups = {EVERYWHERE: both}
    for one, other in both:
        if name := one["groups"].get(DOMAIN):
            groups.setdefault(name, []).append((one, other))
    found = []
    for score, title in TITLES.items():
        if title[-1] in "↑↓" and not score.startswith("speed/"):
            for name, pairs in groups.items():
                if difference := _difference(score, name, pairs):
                    found.append(difference)
    return found


def _identity(pair: Mapping[str, Any]) -> tuple:
    return tuple(str(pair[key]) for key in IDENTITY)


def _difference(
    score: str, group: str, pairs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]
) -> Difference | None:
    """Compare a score; None where fewer than two pairs have it in both reports."""
    measured = [both for both in pairs if all(score in pair["figures"] for pair in both)]
    if len(measured) < MIN_PAIRS:
        return None
    first, second = (
        [pair["figures"][score] for pair in own] for own in zip(*measured, strict=True)
    )
    # Of two references (transcripts may differ by run) the first report's weighs.
    weights = [one["bases"].get(score, 1.0) for one, _ in measured]
    means = figure(first, weights).mean, figure(second, weights).mean
    steps = np.subtract(second, first).tolist()  # of each pair
    return Difference(score, group, *means, figure(steps, weights))


def lines(found: Sequence[Difference], first: str, second: str) -> Iterator[str]:
    """Yield the comparison in Markdown.

    Args:
        found: Results of `differences`.
        first: Name of the first report.
        second: Name of the second report.
    """
    yield from ("# Comparison", "", f"- A: {first}", f"- B: {second}", "")
    yield (
        "Mean difference B − A over the same pairs [95 % paired bootstrap interval] (number of "
        "pairs). B is called better or worse where the interval does not contain 0. One in twenty "
        "such verdicts is chance."
    )
    yield ""
    for section, heading in SECTIONS.items():
        own = [one for one in found if one.score.startswith(f"{section}/")]
        if not own:
            continue
        yield from (
            f"## {heading}",
            "",
            "| | | A | B | B − A | B is |",
            "|---|---|---:|---:|---|---|",
        )
        for one in own:
            value = one.difference
            yield (
                f"| {TITLES[one.score]} | {one.group} | {one.first:.3f} | {one.second:.3f} | "
                f"{value.mean:+.3f} [{value.low:+.3f}, {value.high:+.3f}] ({value.n}) | "
                f"{one.verdict} |"
            )
        yield ""
