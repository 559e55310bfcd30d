"""Draw docs/recipe.svg from reports of evaluate.py, and print their figures as a table.

python scripts/figures/make_recipe.py LABEL=REPORT.json …

A report may have several domains; the table separates their figures by `/`, in the report's order,
and the drawing has the mean over all pairs.
"""

import json
import sys
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from vc_lightning.common import resources

DRAWING = resources.ROOT / "docs" / "recipe.svg"
COLUMNS = {
    "to target": "ge2e/to_target",
    "to source": "ge2e/to_source",
    "nearer": "ge2e/nearer",
    "character errors": "tiny_en/character_errors",
    "DNSMOS": "dnsmos/conversion",
}


def main(arguments: list[str]) -> None:
    """Print one row and draw one point for every report.

    Args:
        arguments: `LABEL=REPORT.json` for each of them.
    """
    matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text
    matplotlib.rcParams["svg.hashsalt"] = "recipe"  # the same file every time
    figure = Figure(figsize=(7.6, 4.8), layout="constrained")
    axes = figure.add_subplot(xlabel="character error rate", ylabel="similarity to the target")
    print("| |", " | ".join(COLUMNS), "|")
    print("|---|" + "---:|" * len(COLUMNS))
    points = []
    for argument in arguments:
        label, _, path = argument.partition("=")
        figures = json.loads(Path(path).read_text(encoding="utf-8"))["figures"]
        every = figures["all"]["all pairs"]
        domains = list(figures.get("domain", {"": every}).values())
        cells = [
            " / ".join(f"{domain[key]['mean']:.2f}" for domain in domains)
            for key in COLUMNS.values()
        ]
        print(f"| {label} |", " | ".join(cells), "|")
        points.append(
            (every["tiny_en/character_errors"]["mean"], every["ge2e/to_target"]["mean"], label)
        )
    for index, (x, y, label) in enumerate(sorted(points)):
        axes.plot(x, y, "o", color="#9e2f7f")
        above = 4 if index % 2 else -12  # in turns, because neighbours may be close
        axes.annotate(label, (x, y), xytext=(6, above), textcoords="offset points")
    axes.margins(0.15)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(DRAWING, metadata={"Date": None})


if __name__ == "__main__":
    main(sys.argv[1:])
