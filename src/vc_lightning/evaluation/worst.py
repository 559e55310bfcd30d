"""Rank the conversions of an evaluation by badness; a mean hides the bad ones."""

from collections.abc import Iterator, Sequence

from vc_lightning.evaluation.results import SCORES, TITLES, ScoredConversion

MAX_COLUMNS = 5  # conversions side by side
MARGIN = "similarity to the target less that to the source's speaker"
# Values with badness 0 (good) and 1 (useless). Halfway lie a DNSMOS of 2, a voice as similar to the
# source as to the target, and half of the characters wrong.
SCALES = {
    "naturalness_conversion": (3.0, 1.0),
    MARGIN: (0.2, -0.2),
    "words_character_errors": (0.0, 1.0),
}
RULE = (
    "The badness of a conversion is that of its worst score, from 0 to 1: DNSMOS from 3 to 1, "
    "similarity to the target less that to the source's speaker from 0.2 to −0.2 (1 where no "
    "speech is found), the character error rate from 0 to 1. Equal ones are ranked by the sum. "
    "Scores that were not measured do not count."
)


def shortfalls(conversion: ScoredConversion) -> dict[str, float]:
    """Compute the badness of each score of a conversion.

    Args:
        conversion: The conversion.

    Returns:
        A number in 0…1 for each key of `SCALES` that was measured.
    """
    values = {MARGIN: _margin(conversion)}
    values |= {name: conversion.scores.value(name) for name in SCALES if name != MARGIN}
    found = {MARGIN: 1.0} if not conversion.scores.has_speech else {}
    for name, (good, useless) in SCALES.items():
        value = values[name]
        if value is not None:
            found[name] = min(max((value - good) / (useless - good), 0.0), 1.0)
    return found


def _margin(conversion: ScoredConversion) -> float | None:
    to_target = conversion.scores.similarity_to_target
    to_source = conversion.scores.similarity_to_source
    return None if to_target is None or to_source is None else to_target - to_source


def badness(conversion: ScoredConversion) -> tuple[float, float]:
    """Return the sort key of a conversion: the largest of its `shortfalls`, and their sum."""
    found = shortfalls(conversion).values()
    return max(found, default=0.0), sum(found)


def ranked(conversions: Sequence[ScoredConversion], n: int) -> list[tuple[int, ScoredConversion]]:
    """Return the n worst conversions, the worst first, each with the number of its pair."""
    order = sorted(enumerate(conversions), key=lambda item: badness(item[1]), reverse=True)
    return order[:n]


def reason(conversion: ScoredConversion) -> str:
    """Return the title and value of a conversion's worst score."""
    found = shortfalls(conversion)
    if not found:
        return "nothing was measured"
    name = max(found, key=found.__getitem__)
    if name != MARGIN:
        return f"{TITLES[name].rstrip(' ↑↓')} {conversion.scores.value(name):.2f}"
    if not conversion.scores.has_speech:
        return "no speech is found in it"
    return f"{MARGIN} {_margin(conversion):.2f}"


def lines(
    ranked: Sequence[tuple[int, ScoredConversion]], cells: Sequence[tuple[str, str]]
) -> Iterator[str]:
    """Yield the section of report.md.

    Args:
        ranked: The worst conversions, from the function `ranked`.
        cells: For each, the names of both speakers and the links to the sound, in Markdown.
    """
    yield from ("## The worst conversions", "", RULE, "")
    yield from ("| | source → target | because of | badness | sound |", "|---:|---|---|---:|---|")
    for (index, conversion), (names, links) in zip(ranked, cells, strict=True):
        found = f"{reason(conversion)} | {badness(conversion)[0]:.2f} | {links}"
        yield f"| {index:03d} | {names} | {found} |"
    yield ""
    for start in range(0, len(ranked), MAX_COLUMNS):
        some = ranked[start : start + MAX_COLUMNS]
        yield f"| every score of | {' | '.join(f'{index:03d}' for index, _ in some)} |"
        yield "|---|" + "---:|" * len(some)
        for name in SCORES:
            values = [conversion.scores.value(name) for _, conversion in some]
            if any(value is not None for value in values):
                shown = ["–" if value is None else f"{value:.3f}" for value in values]
                yield f"| {TITLES[name]} | {' | '.join(shown)} |"
        yield ""
