"""Marked places of a text, which scripts rewrite: <!-- figures: NAME -->…<!-- /figures -->."""

import re
from pathlib import Path

END = "<!-- /figures -->"


def rewrite(path: Path, contents: dict[str, str]) -> None:
    """Replace what stands in marked places; everything else stays.

    Args:
        path: A Markdown file.
        contents: Names of places and their new texts. A text of several lines gets lines of its
            own; a short one stays within its sentence.

    Raises:
        KeyError: The file has no such place.
    """
    text = path.read_text(encoding="utf-8")
    for name, content in contents.items():
        start = f"<!-- figures: {name} -->"
        place = re.compile(f"{re.escape(start)}.*?{re.escape(END)}", re.DOTALL)
        if not place.search(text):
            raise KeyError(f"{path} has no place {start}")
        inner = f"\n{content.rstrip()}\n" if "\n" in content else content
        new = f"{start}{inner}{END}".replace("\\", r"\\")
        text = place.sub(new, text)
    path.write_text(text, encoding="utf-8")
