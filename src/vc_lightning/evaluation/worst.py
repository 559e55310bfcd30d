"""The worst conversions of an evaluation: in a mean half of them can hide."""

from collections.abc import Iterator, Sequence

from vc_lightning.evaluation.results import TITLES, Outcome

MAX_COLUMNS = 5  # conversions side by side
MARGIN = "similarity to the target less that to the source's speaker"
# What is as good as can be asked for (0) and what nobody can use (1). Halfway lie a DNSMOS of 2,
# a voice as near to the source's as to the target's, and half of the characters wrong.
SCALES = {
    "naturalness/conversion": (3.0, 1.0),
    MARGIN: (0.2, -0.2),
    "words/character_errors": (0.0, 1.0),
}
RULE = (
    "A conversion is as bad as its worst figure. Each counts from 0 to 1: DNSMOS from 3 to 1, "
    "similarity to the target less that to the source's speaker from 0.2 to −0.2 (1 where no "
    "speech is found), the character error rate from 0 to 1. Among equals the sum decides. What "
    "was not judged does not count."
)


def shortfalls(outcome: Outcome) -> dict[str, float]:
    """How far a conversion is from good, in 0…1, by the keys of `SCALES` that were judged."""
    values = dict(outcome.values)
    found = {}
    if values.get("similarity/speech") == 0:
        found[MARGIN] = 1.0
    elif {"similarity/to_target", "similarity/to_source"} <= values.keys():
        values[MARGIN] = values["similarity/to_target"] - values["similarity/to_source"]
    for key, (good, useless) in SCALES.items():
        if key in values:
            found[key] = min(max((values[key] - good) / (useless - good), 0.0), 1.0)
    return found


def badness(outcome: Outcome) -> tuple[float, float]:
    """What conversions are ordered by: the largest of the `shortfalls`, then their sum."""
    found = shortfalls(outcome).values()
    return max(found, default=0.0), sum(found)


def ranked(outcomes: Sequence[Outcome], n: int) -> list[tuple[int, Outcome]]:
    """The n worst of some conversions, the worst first, each with its place among them all."""
    order = sorted(enumerate(outcomes), key=lambda item: badness(item[1]), reverse=True)
    return order[:n]


def reason(outcome: Outcome) -> str:
    """Which figure puts a conversion where it is, in words, with its value."""
    found = shortfalls(outcome)
    if not found:
        return "nothing was judged"
    key = max(found, key=found.get)
    if key == MARGIN and not outcome.values.get("similarity/speech", 1):
        return "no speech is found in it"
    if key == MARGIN:
        values = outcome.values
        return f"{MARGIN} {values['similarity/to_target'] - values['similarity/to_source']:.2f}"
    return f"{TITLES[key].rstrip(' ↑↓')} {outcome.values[key]:.2f}"


def lines(ranked: Sequence[tuple[int, Outcome]], cells: Sequence[tuple[str, str]]) -> Iterator[str]:
    """A section of report.md.

    Args:
        ranked: see the function of that name.
        cells: of each, who is converted into whom, and links to the sound, both in Markdown.
    """
    yield from ("## The worst conversions", "", RULE, "")
    yield from ("| | source → target | because of | badness | sound |", "|---:|---|---|---:|---|")
    for (index, outcome), (names, links) in zip(ranked, cells, strict=True):
        found = f"{reason(outcome)} | {badness(outcome)[0]:.2f} | {links}"
        yield f"| {index:03d} | {names} | {found} |"
    yield ""
    for start in range(0, len(ranked), MAX_COLUMNS):
        some = ranked[start : start + MAX_COLUMNS]
        keys = [key for key in TITLES if any(key in outcome.values for _, outcome in some)]
        yield f"| every figure of | {' | '.join(f'{index:03d}' for index, _ in some)} |"
        yield "|---|" + "---:|" * len(some)
        for key in keys:
            values = [outcome.values.get(key) for _, outcome in some]
            shown = ["–" if value is None else f"{value:.3f}" for value in values]
            yield f"| {TITLES[key]} | {' | '.join(shown)} |"
        yield ""
