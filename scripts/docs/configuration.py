"""Write docs/configuration.md from the comments of conf/.

python scripts/docs/configuration.py
"""

from collections.abc import Iterator
from pathlib import Path

import yaml

from vc_lightning.common import resources

PAGE = resources.ROOT / "docs" / "configuration.md"
COMMANDS = ("prepare", "train", "convert", "voices", "evaluate", "export", "app", "live", "serve")
SHARED = ("converter", "shelf", "cleanup")  # files that several commands include
HIDDEN = ("defaults", "hydra", "_target_", "_partial_")
INTRODUCTION = """\
# Configuration

<!-- Written by `python scripts/docs/configuration.py` from the comments of conf/; edit those. -->

Every setting is a key that you can give on the command line: `python train.py data.batch_size=8`.
A *group*, such as `model`, is a folder of files; `model=autovc_small` chooses one of them. Keys in
a chosen file are written with the group's name before them: `model.freq=4`. `--help` prints the
same keys with their present values, and `--cfg job` prints the composed configuration.

The `experiment` and `debug` groups change keys of other groups, so their tables show full keys.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page(folder: Path = resources.CONF) -> str:
    """Make the Markdown of the whole page.

    Args:
        folder: The folder of the configuration.
    """
    parts = [INTRODUCTION, "## Commands\n"]
    parts += [section(folder / f"{name}.yaml", f"python {name}.py") for name in COMMANDS]
    parts += [section(folder / f"{name}.yaml", f"conf/{name}.yaml") for name in SHARED]
    for group in sorted(path for path in folder.iterdir() if path.is_dir()):
        if group.name == "hydra":
            continue
        parts.append(f"## {group.name}\n")
        for path in sorted(group.glob("*.yaml")):
            parts.append(section(path, f"{group.name}={path.stem}"))
        for path in sorted(group.glob("*/*.yaml")):  # what several choices include
            parts.append(section(path, f"conf/{path.relative_to(folder).as_posix()}"))
    return "\n".join(parts)


def section(path: Path, title: str) -> str:
    """Make heading, description and table of one file.

    Args:
        path: A YAML file of the configuration.
        title: Text of the heading.
    """
    text = path.read_text(encoding="utf-8")
    root = yaml.compose(text)
    lines = [f"### `{title}`", ""]
    described = description(text)
    if described:
        lines += [described, ""]
    settings = yaml.safe_load(text)
    if "_target_" in settings:
        lines += [f"Builds `{settings['_target_']}`.", ""]
    included = [line for entry in settings.get("defaults", []) for line in inclusion(entry)]
    if included:
        lines += ["Includes " + ", ".join(included) + ".", ""]
    rows = list(keys(root, text.splitlines()))
    if rows:
        lines += ["| key | default | meaning |", "|---|---|---|"]
        lines += [f"| `{key}` | {code(value)} | {escaped(note)} |" for key, value, note in rows]
        lines.append("")
    return "\n".join(lines)


def description(text: str) -> str:
    """Read the comment at the top of a file, as one paragraph."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith(("# @package", "# python ")):
            lines.append(line.removeprefix("#").strip())
    return escaped(" ".join(lines)) if lines else ""


def inclusion(entry: str | dict) -> Iterator[str]:
    """Describe an entry of a defaults list, such as "`model=autovc`"."""
    if isinstance(entry, str):
        if entry != "_self_":
            yield f"`{entry}`"
        return
    for group, choice in entry.items():
        name = group.removeprefix("override ").removeprefix("/")
        if "hydra/" not in name and choice is not None:
            yield f"`{name}={choice}`"


def keys(
    node: yaml.MappingNode, lines: list[str], prefix: str = ""
) -> Iterator[tuple[str, str, str]]:
    """List key, value and comment of every setting in a mapping, in the order of the file."""
    for key, value in node.value:
        if key.value in HIDDEN:
            continue
        name = prefix + key.value
        if isinstance(value, yaml.MappingNode) and value.value:
            note = comment(lines[key.end_mark.line], key.end_mark.column)
            if note:
                yield name, "", note
            yield from keys(value, lines, f"{name}.")
            continue
        is_inline = value.start_mark.line == value.end_mark.line == key.end_mark.line
        mark = value.end_mark if is_inline else key.end_mark
        yield name, plain(value, lines), comment(lines[mark.line], mark.column)


def comment(line: str, column: int) -> str:
    """Read the comment after a column of a line; an empty string if there is none."""
    _, _, note = line[column:].partition("#")
    return note.strip()


def plain(node: yaml.Node, lines: list[str]) -> str:
    """Format a value as the file writes it; lists of objects by the names of their classes."""
    if isinstance(node, yaml.ScalarNode):
        return node.value if node.style is None else f'"{node.value}"'
    if node.start_mark.line == node.end_mark.line:
        return lines[node.start_mark.line][node.start_mark.column : node.end_mark.column]
    targets = [
        value.value.rpartition(".")[2]
        for item in node.value
        for key, value in item.value
        if key.value == "_target_"
    ]
    return f"[{', '.join(targets)}]"


def code(value: str) -> str:
    """Format a value in backticks for a table; nothing for none."""
    return f"`{value.replace('|', chr(92) + '|')}`" if value else ""


def escaped(text: str) -> str:
    """Escape bars and angle brackets of text for a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    main()
