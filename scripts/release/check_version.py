"""Check that a tag, the package and the changelog have one version; print the changelog's part.

python scripts/release/check_version.py v1.2.3 [--notes]
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main(tag: str, *options: str) -> None:
    """End with an error if the versions differ.

    Args:
        tag: The tag, such as v1.2.3.
        options: `--notes` prints what the changelog says of this version.
    """
    version = tag.removeprefix("v")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    found = {
        "pyproject.toml": project["version"],
        "CITATION.cff": re.findall(r"^version: (\S+)$", citation, re.MULTILINE)[0],
    }
    for name, stated in found.items():
        if stated != version:
            sys.exit(f"error: {name} has version {stated}, the tag {tag}")
    notes = part((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    if not notes:
        sys.exit(f"error: CHANGELOG.md has no part [{version}]")
    if "--notes" in options:
        print(notes)


def part(changelog: str, version: str) -> str:
    """Return what a changelog says of a version, or "".

    Args:
        changelog: Its text, in the form of Keep a Changelog.
        version: Such as 1.2.3.
    """
    wanted = rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## \[|\Z)"
    found = re.search(wanted, changelog, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


if __name__ == "__main__":
    main(*sys.argv[1:])
