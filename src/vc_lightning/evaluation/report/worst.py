"""Rank the conversions of an evaluation by badness; a mean hides the bad ones."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from vc_lightning.evaluation.scores import TITLES, ScoredConversion, Scores

MAX_COLUMNS = 5  # conversions side by side
MARGIN = "similarity to the target less that to the source's speaker"
# Aspects of a conversion: titles of the judges that can score it, best first, with their values of
# badness 0 (good) and 1 (useless). Halfway lie a voice as similar to the source as to the target,
# and half of the characters wrong.
ASPECTS: tuple[Mapping[str, tuple[Callable[[Scores], float | None], float, float]], ...] = (
    {
        "DistillMOS": (lambda of: of.value("distillmos/conversion"), 4.0, 1.5),
        "DNSMOS": (lambda of: of.value("dnsmos/conversion"), 3.0, 1.0),
    },
    {
        f"CAM++, {MARGIN}": (lambda of: of.margin("campplus"), 0.2, -0.2),
        f"GE2E, {MARGIN}": (lambda of: of.margin("ge2e"), 0.2, -0.2),
    },
    {
        "added character errors": (lambda of: of.value("words/added_character_errors"), 0.0, 1.0),
        "character errors of tiny.en": (lambda of: of.value("tiny_en/character_errors"), 0.0, 1.0),
    },
)
NO_SPEECH = "no speech is found in it"
RULE = (
    "The badness of a conversion is that of its worst score, from 0 to 1: DistillMOS from 4 to 1.5 "
    "(else DNSMOS from 3 to 1), similarity to the target less that to the source's speaker from "
    "0.2 to −0.2 by CAM++ (else by GE2E), the character errors that conversion adds from 0 to 1; 1 "
    "where no speech is found. Equal ones are ranked by the sum. Scores that were not measured do "
    "not count."
)


def shortfalls(conversion: ScoredConversion) -> dict[str, float]:
    """Compute the badness of each aspect of a conversion that was scored.

    Returns:
        A number in 0…1 by the reason, a title and a value.
    """
    found = {} if conversion.scores.has_speech else {NO_SPEECH: 1.0}
    for judges in ASPECTS:
        for title, (value_of, good, useless) in judges.items():
            value = value_of(conversion.scores)
            if value is not None:
                badness = min(max((value - good) / (useless - good), 0.0), 1.0)
                found[f"{title} {value:.2f}"] = badness
                break
    return found


def badness(conversion: ScoredConversion) -> tuple[float, float]:
    """Return the sort key of a conversion: the largest of its `shortfalls`, and their sum."""
    found = shortfalls(conversion).values()
    return max(found, default=0.0), sum(found)


def reason(conversion: ScoredConversion) -> str:
    """Return the title and value of a conversion's worst score."""
    found = shortfalls(conversion)
    return max(found, key=found.__getitem__) if found else "nothing was measured"


def ranked(conversions: Sequence[ScoredConversion], n: int) -> list[tuple[int, ScoredConversion]]:
    """Return the n worst conversions of each domain, each with the number of its pair.

    The domains are in the order of the conversions; in each, the worst conversion is the first.
    """
    by_domain: dict[str, list[tuple[int, ScoredConversion]]] = {}
    for index, conversion in enumerate(conversions):
        by_domain.setdefault(conversion.pair.domain, []).append((index, conversion))
    return [
        one
        for own in by_domain.values()
        for one in sorted(own, key=lambda item: badness(item[1]), reverse=True)[:n]
    ]


def lines(
    ranked: Sequence[tuple[int, ScoredConversion]], cells: Sequence[tuple[str, str]]
) -> Iterator[str]:
    """Yield the section of report.md.

    Args:
        ranked: The worst conversions, from the function `ranked`.
        cells: For each, the names of both speakers and the links to sound and picture, in Markdown.
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
        for name, title in TITLES.items():
            values = [conversion.scores.value(name) for _, conversion in some]
            if any(value is not None for value in values):
                shown = ["–" if value is None else f"{value:.3f}" for value in values]
                section = name.partition("/")[0]
                yield f"| {section}: {title} | {' | '.join(shown)} |"
        yield ""
