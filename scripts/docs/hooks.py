"""Hooks of MkDocs, see `hooks` in mkdocs.yml.

- Some files outside docs/ become pages: the model card, the report, the changelog and others.
- The two examples become files of the site, for the players of listen.md.
- Every wing of the package becomes a page of the API reference.
- A link to a file that is not a page becomes the file's path, because the site has no such file.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "vc_lightning"
PAGES = {  # file of the repository → page of the site
    "checkpoints/README.md": "model_card.md",
    "checkpoints/report.md": "report.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples/README.md": "examples.md",
}
SOUNDS = {  # file of the repository → file of the site, beside the page listen/
    "examples/source.wav": "listen/source.wav",
    "examples/target.wav": "listen/target.wav",
}
WINGS = {  # lowest first
    "common": "Modules for all wings: errors, validation, files and tables.",
    "audio": "Sound without any network but the pitch tracker's: reading, level, mel, clean-up.",
    "models": "The networks, their vocoders and their weight files.",
    "data": "From recordings to batches: manifests, the feature cache, sampling, data modules.",
    "conversion": "From recording to recording: converter, jobs, learned voices, provenance.",
    "training": "The Lightning side: losses, averages, checkpoints, callbacks.",
    "evaluation": "The quality of a converter: pairs, judges, statistics, report.",
    "live": "Live conversion on this computer: sound devices and the terminal.",
    "service": "The server: HTTP, live speech over WebSockets, the page, the queue.",
    "commands": "The code behind `train.py`, `convert.py`, `live.py` and the other commands.",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside docs/.

    Args:
        files: The files of docs/.
        config: The configuration of MkDocs.

    Returns:
        The same files and the added ones.
    """
    for source, name in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=text))
    for source, name in SOUNDS.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / source)))
    for wing in WINGS:
        files.append(File.generated(config, f"api/{wing}.md", content=api_page(wing)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point the links of a page to pages of the site.

    Args:
        markdown: The text of the page.
        page: The page.
        config: The configuration of MkDocs.
        files: All files of the site.

    Returns:
        The text with its links changed.
    """
    del config
    name = page.file.src_uri
    return with_site_links(markdown, name, {file.src_uri for file in files})


def with_site_links(markdown: str, name: str, names: set[str]) -> str:
    """Change the relative links in a page's text so that they lead to files of the site.

    Args:
        markdown: The text of the page.
        name: The page's path in the site.
        names: The paths of all files of the site.
    """
    sources = {page: source for source, page in PAGES.items()}
    folder = posixpath.dirname(sources.get(name, f"docs/{name}"))
    outside = PAGES | SOUNDS

    def replaced(match: re.Match) -> str:
        bang, label, target, anchor = match.groups()
        path = posixpath.normpath(posixpath.join(folder, target))
        site_name = outside.get(path, path.removeprefix("docs/"))
        if site_name in names and (path in outside or path.startswith("docs/")):
            link = posixpath.relpath(site_name, posixpath.dirname(name) or ".")
            return f"{bang}[{label}]({link}{anchor or ''})"
        text = label.strip("`")
        return f"`{path}`" if text in path else f"{text} (`{path}`)"

    return LINK.sub(replaced, markdown)


def api_page(wing: str) -> str:
    """Make the API reference of a wing: its public modules in alphabetical order."""
    lines = [f"# {wing}", "", WINGS[wing], ""]
    for path in sorted((PACKAGE / wing).rglob("*.py")):
        if path.name.startswith("_"):
            continue
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        lines += [f"## `{module}`", "", f"::: {module}", ""]
    return "\n".join(lines)
