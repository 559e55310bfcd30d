"""List the conversions that a command line asks for, and name their files."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vc_lightning.common.errors import InputError
from vc_lightning.common.tables import SEPARATOR, table_rows
from vc_lightning.conversion.voices.voice import Target


@dataclass(frozen=True)
class Job:
    """One conversion.

    Attributes:
        source: The recording to convert.
        target: Recordings of the target speaker, or the name of a learned voice.
        output: The file to write, in the format of its suffix.
    """

    source: Path
    target: Target
    output: Path


def matched(
    sources: Sequence[Path], targets: Sequence[Path], match: str, bidirectional: bool
) -> list[tuple[Path, Target]]:
    """Match sources with targets.

    Args:
        sources: The source recordings.
        targets: The target recordings.
        match: "one", all targets together are one voice; "all", every source to every target;
            "aligned", the first source to the first target, the second to the second, ….
        bidirectional: Whether every target is also converted to its sources.

    Returns:
        Pairs of a source and its target; no recording is paired with itself.

    Raises:
        InputError: The lists to align have different lengths, or no pair is left.
    """
    if match == "one":
        if bidirectional:
            raise InputError("bidirectional=true: give match=all or match=aligned with it")
        return [(source, tuple(targets)) for source in sources]
    if match == "aligned":
        if len(sources) != len(targets):
            raise InputError(
                f"match=aligned: source names {len(sources)} recordings and target "
                f"{len(targets)}; name as many of both"
            )
        pairs = list(zip(sources, targets, strict=True))
    else:
        pairs = list(itertools.product(sources, targets))
    if bidirectional:
        pairs += [(target, source) for source, target in pairs]
    unique = dict.fromkeys(pair for pair in pairs if pair[0] != pair[1])
    if not unique:
        raise InputError(f"match={match}: source and target are the same recording")
    return [(source, (target,)) for source, target in unique]


def from_table(path: Path) -> list[tuple[Path, tuple[Path, ...]]]:
    """Read sources and targets from a tab-separated table.

    Args:
        path: The table. Its paths are relative to its folder, and `target` may name several
            recordings, separated by `|`.

    Returns:
        Pairs of a source and the recordings of its target.

    Raises:
        InputError: The table cannot be read, or a row names no source or no target.
    """
    pairs = []
    for number, row in enumerate(table_rows(path, "pairs", {"source", "target"}), start=2):
        names = [name.strip() for name in row["target"].split(SEPARATOR) if name.strip()]
        if not row["source"].strip() or not names:
            raise InputError(f"pairs={path}: line {number} names no source or no target")
        source = path.parent / row["source"].strip()
        pairs.append((source, tuple(path.parent / name for name in names)))
    return pairs


def named(pairs: Sequence[tuple[Path, Target]], folder: Path, suffix: str = ".wav") -> list[Job]:
    """Make jobs that write folder/<source>_to_<target> with a suffix.

    If files in several folders have the same name, the names of their folders are added.

    Raises:
        InputError: Two conversions would have the same name.
    """
    sources = _short_names(source for source, _ in pairs)
    recordings = [target for _, target in pairs if not isinstance(target, str)]
    targets = _short_names(_of_voice(target) for target in recordings)
    jobs = []
    for source, target in pairs:
        voice = target if isinstance(target, str) else targets[_of_voice(target)]
        jobs.append(Job(source, target, folder / f"{sources[source]}_to_{voice}{suffix}"))
    twice = [name for name, n in Counter(job.output for job in jobs).items() if n > 1]
    if twice:
        raise InputError(f"{twice[0]}: two conversions would have this name; rename a recording")
    return jobs


def _of_voice(target: tuple[Path, ...]) -> Path:
    """Return the path that names a voice: its recording, or the folder of several."""
    return target[0] if len(target) == 1 else target[0].parent


def _short_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Name every path by as few of its last parts as make the names distinct."""
    paths = dict.fromkeys(paths)
    words = {path: (*path.absolute().parent.parts[1:], path.stem) for path in paths}
    found: dict[Path, str] = {}
    for depth in range(1, 1 + max(map(len, words.values()), default=0)):
        names = {path: "_".join(words[path][-depth:]) for path in paths if path not in found}
        counts = Counter([*names.values(), *found.values()])
        found |= {path: name for path, name in names.items() if counts[name] == 1}
    rest = {
        path: f"{path.stem}_{path.suffix[1:].replace('?stream=', '_')}"
        for path in paths
        if path not in found
    }
    return found | rest
