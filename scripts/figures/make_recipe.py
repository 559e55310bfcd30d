"""Draw docs/recipe.svg from reports of evaluate.py, and print the figures as a table.

python scripts/figures/make_recipe.py LABEL=REPORT.json …

Reports called "shipped …" are joined by a line.
"""

import json
import sys
from html import escape
from itertools import pairwise
from pathlib import Path

from vc_lightning.common import resources

DRAWING = resources.ROOT / "docs" / "recipe.svg"
WIDTH, HEIGHT, MARGIN = 760, 480, 70
ERRORS = (0.0, 1.4)  # characters: the horizontal axis
LIKENESS = (0.52, 0.70)  # similarity to the target: the vertical axis
COLUMNS = {
    "to target": "similarity/to_target",
    "to source": "similarity/to_source",
    "nearer": "similarity/nearer",
    "character errors": "words/character_errors",
    "DNSMOS": "naturalness/conversion",
}


def main(arguments: list[str]) -> None:
    """Draw a point and print a table row for every report."""
    rows = {}
    for argument in arguments:
        label, _, path = argument.partition("=")
        report = json.loads(Path(path).read_text(encoding="utf-8"))
        figures = report["figures"]["all"]["all pairs"]
        rows[label] = [figures[key]["mean"] for key in COLUMNS.values()]
        rows[label].append(report["codes"]["accuracy"]["mean"])
    print("| |", " | ".join(COLUMNS), "| speaker in the codes |")
    print("|---|" + "---:|" * (len(COLUMNS) + 1))
    for label, values in rows.items():
        print(f"| {label} |", " | ".join(f"{value:.2f}" for value in values), "|")
    DRAWING.write_text(drawing(rows), encoding="utf-8")


def drawing(rows: dict[str, list[float]]) -> str:
    """Make an SVG of similarity to the target over character errors; top left is best."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        *axes(),
    ]
    places = {label: (across(values[3]), up(values[0])) for label, values in rows.items()}
    shipped = [place for label, place in places.items() if label.startswith("shipped")]
    for (x, y), (to_x, to_y) in pairwise(shipped):
        parts.append(
            f'<path d="M{x:.0f} {y:.0f}L{to_x:.0f} {to_y:.0f}" stroke="#c50" fill="none"/>'
        )
    for label, (x, y) in places.items():
        colour = "#c50" if label.startswith("shipped") else "#06a"
        parts.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{x + 8:.0f}" y="{y + 4:.0f}">{escape(label)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def axes() -> list[str]:
    """Draw grid, numbers and titles."""
    parts = []
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4):
        x = across(tick)
        parts.append(
            f'<path d="M{x:.0f} {up(LIKENESS[0]):.0f}V{up(LIKENESS[1]):.0f}" stroke="#ddd"/>'
        )
        parts.append(f'<text x="{x:.0f}" y="{HEIGHT - 45}" text-anchor="middle">{tick:.1f}</text>')
    for tick in (0.52, 0.56, 0.60, 0.64, 0.68):
        y = up(tick)
        parts.append(f'<path d="M{across(0):.0f} {y:.0f}H{across(1.4):.0f}" stroke="#ddd"/>')
        parts.append(f'<text x="{MARGIN - 8}" y="{y + 4:.0f}" text-anchor="end">{tick:.2f}</text>')
    middle = HEIGHT / 2
    return [
        *parts,
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 18}" text-anchor="middle">character error rate</text>',
        f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">'
        "similarity to the target</text>",
    ]


def across(errors: float) -> float:
    """Return the x coordinate of a character error rate, in pixels."""
    low, high = ERRORS
    return MARGIN + (min(errors, high) - low) / (high - low) * (WIDTH - 2 * MARGIN)


def up(similarity: float) -> float:
    """Return the y coordinate of a similarity, in pixels."""
    low, high = LIKENESS
    return HEIGHT - MARGIN - (similarity - low) / (high - low) * (HEIGHT - 2 * MARGIN)


if __name__ == "__main__":
    main(sys.argv[1:])
