"""Join several manifests and tables of pairs to one evaluation, each as a domain of its own."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vc_lightning.common.errors import InputError
from vc_lightning.evaluation.pairs import DOMAIN, Pair

USUAL = ("manifest", "pairs")  # names of files that say nothing


def names(paths: Sequence[Path]) -> list[str]:
    """Give manifests and tables short, distinct names.

    Returns:
        The names of the files without suffix, or of the folders of MANIFEST.tsv and PAIRS.tsv, if
        these are distinct; else folder/file, else the whole paths.

    Raises:
        InputError: A file is listed twice.
    """
    resolved = [path.resolve() for path in paths]
    for path, count in Counter(resolved).items():
        if count > 1:
            raise InputError(f"data.manifest, data.pairs: {path} is listed twice; list it once")
    for name in (
        lambda path: path.parent.name if path.stem.lower() in USUAL else path.stem,
        lambda path: f"{path.parent.name}/{path.name}",
    ):
        found = [name(path) for path in resolved]
        if len(set(found)) == len(found) and all(found):
            return found
    return [str(path) for path in resolved]


def together(listed: Sequence[tuple[str, Sequence[Pair]]]) -> list[Pair]:
    """Join the pairs of several domains, each in the group of its domain.

    Equal names in two domains are different speakers: the domain's name is put in front of them.

    Args:
        listed: The name of every domain with its pairs.

    Raises:
        InputError: A table has a column `domain` of its own.
    """
    domains_of: dict[str, set[str]] = {}  # speaker -> its domains
    for domain, pairs in listed:
        for pair in pairs:
            for speaker in (pair.source_speaker, pair.target_speaker):
                domains_of.setdefault(speaker, set()).add(domain)

    def full(domain: str, speaker: str) -> str:
        return f"{domain}/{speaker}" if len(domains_of[speaker]) > 1 else speaker

    found = []
    for domain, pairs in listed:
        for pair in pairs:
            if DOMAIN in pair.groups:
                raise InputError(
                    f"data.pairs: {domain}: with several tables, the column {DOMAIN} is reserved "
                    "for their names; give it another name"
                )
            found.append(
                replace(
                    pair,
                    source_speaker=full(domain, pair.source_speaker),
                    target_speaker=full(domain, pair.target_speaker),
                    groups={DOMAIN: domain} | pair.groups,
                )
            )
    return found
