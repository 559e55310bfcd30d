"""The README's badges as files, which say what the project's files say and need no server."""

import tomllib
from pathlib import Path

from vc_lightning.common import resources

BADGES = resources.ROOT / "docs" / "badges"
LABEL_COLOUR, VALUE_COLOUR = "#555", "#41104f"
LETTER, MARGIN, HEIGHT = 6.6, 7, 20  # pixels


def write() -> None:
    """Write all badges."""
    BADGES.mkdir(exist_ok=True)
    for name, (label, value) in badges().items():
        (BADGES / f"{name}.svg").write_text(svg(label, value), encoding="utf-8")


def badges() -> dict[str, tuple[str, str]]:
    """Read label and value of every badge from the project's files."""
    project = tomllib.loads(read("pyproject.toml"))["project"]
    pythons = [
        name.rsplit(" ", 1)[1]
        for name in project["classifiers"]
        if name.startswith("Programming Language :: Python :: 3.")
    ]
    weights = sum(path.stat().st_size for path in resources.CHECKPOINTS.glob("*.safetensors"))
    return {
        "version": ("version", project["version"]),
        "python": ("python", " | ".join(pythons)),
        "licence": ("code", project["license"]),
        "weights": ("weights included", f"{weights / 2**20:.0f} MB"),
        "gpu": ("GPU", "not needed"),
    }


def svg(label: str, value: str) -> str:
    """Draw a badge of two fields."""
    left, right = (round(len(text) * LETTER + 2 * MARGIN) for text in (label, value))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="{HEIGHT}" '
        f'role="img" aria-label="{label}: {value}"><title>{label}: {value}</title>'
        f'<clipPath id="r"><rect width="{left + right}" height="{HEIGHT}" rx="3"/></clipPath>'
        f'<g clip-path="url(#r)"><rect width="{left}" height="{HEIGHT}" fill="{LABEL_COLOUR}"/>'
        f'<rect x="{left}" width="{right}" height="{HEIGHT}" fill="{VALUE_COLOUR}"/></g>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" '
        f'font-size="11"><text x="{left / 2}" y="14">{label}</text>'
        f'<text x="{left + right / 2}" y="14">{value}</text></g></svg>\n'
    )


def read(name: str) -> str:
    """Read a file of the repository's root."""
    return Path(resources.ROOT / name).read_text(encoding="utf-8")
