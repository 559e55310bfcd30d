"""Several manifests and tables of pairs in one evaluation, each reported as a domain of its own."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vc_lightning.common.errors import InputError
from vc_lightning.evaluation.pairs import Pair

GROUP = "domain"  # the kind of group under which each manifest or table has its figures


def names(paths: Sequence[Path]) -> list[str]:
    """Short, distinct names of manifests and tables.

    Args:
        paths: of the files, no two the same.
    Returns: the names of their folders where no two are alike, else those of the files without
        their suffix, else folder/file, else the whole paths.
    Raises: InputError naming a file that is listed twice.
    """
    resolved = [path.resolve() for path in paths]
    for path, count in Counter(resolved).items():
        if count > 1:
            raise InputError(f"data.manifest, data.pairs: {path} is listed twice; list it once")
    for name in (
        lambda path: path.parent.name,
        lambda path: path.stem,
        lambda path: f"{path.parent.name}/{path.name}",
    ):
        found = [name(path) for path in resolved]
        if len(set(found)) == len(found) and all(found):
            return found
    return [str(path) for path in resolved]


def together(listed: Sequence[tuple[str, Sequence[Pair]]]) -> list[Pair]:
    """All pairs of several domains, each in the group of its domain.

    Speakers of two domains are never one person: a name that occurs in both is given the domain's.

    Args:
        listed: the name of every domain with its pairs.
    Raises: InputError for a table with a column `domain` of its own.
    """
    domains_of: dict[str, set[str]] = {}  # speaker -> where it occurs
    for domain, pairs in listed:
        for pair in pairs:
            for speaker in (pair.source_speaker, pair.target_speaker):
                domains_of.setdefault(speaker, set()).add(domain)

    def full(domain: str, speaker: str) -> str:
        return f"{domain}/{speaker}" if len(domains_of[speaker]) > 1 else speaker

    found = []
    for domain, pairs in listed:
        for pair in pairs:
            if GROUP in pair.groups:
                raise InputError(
                    f"data.pairs: {domain}: the column {GROUP} is taken where several tables are "
                    "given; give it another name"
                )
            found.append(
                replace(
                    pair,
                    source_speaker=full(domain, pair.source_speaker),
                    target_speaker=full(domain, pair.target_speaker),
                    groups={GROUP: domain} | pair.groups,
                )
            )
    return found
