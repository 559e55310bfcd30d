"""Which conversions a command line asks for, and the table of what became of them."""

import csv
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from vc_lightning.common.errors import InputError
from vc_lightning.common.files import atomic_path
from vc_lightning.common.tables import SEPARATOR, table_rows

TABLE = "conversions.csv"

Target = tuple[Path, ...] | str  # recordings of one voice, or the name of a learned one


@dataclass(frozen=True)
class Job:
    """One conversion.

    Attributes: target, whose voice; output, the wav to be written.
    """

    source: Path
    target: Target
    output: Path


@dataclass(frozen=True)
class Row:
    """What became of a job, a row of conversions.csv.

    Attributes: seconds, of sound; before, similarity of the source to the target; to_target and
        to_source, of the conversion; real_time_factor, computing time over `seconds`; error, what
        went wrong, or "".
    """

    output: str
    source: str
    target: str
    seconds: float | None = None
    before: float | None = None
    to_target: float | None = None
    to_source: float | None = None
    real_time_factor: float | None = None
    error: str = ""


def matched(
    sources: Sequence[Path], targets: Sequence[Path], match: str, bidirectional: bool
) -> list[tuple[Path, Target]]:
    """Who is converted to whom.

    Args:
        match: "one", all targets together are one voice; "all", every source to every target;
            "aligned", the first source to the first target, the second to the second, ….
        bidirectional: also the other way round.
    Raises: InputError when lists to be aligned have other lengths, or nothing is left once a
        recording's own voice is left out.
    """
    if match == "one":
        if bidirectional:
            raise InputError("bidirectional=true: say who is whose by match=all or match=aligned")
        return [(source, tuple(targets)) for source in sources]
    if match == "aligned":
        if len(sources) != len(targets):
            raise InputError(
                f"match=aligned: source names {len(sources)} recordings and target "
                f"{len(targets)}; name as many"
            )
        couples = list(zip(sources, targets, strict=True))
    else:
        couples = list(itertools.product(sources, targets))
    if bidirectional:
        couples += [(target, source) for source, target in couples]
    unique = dict.fromkeys(couple for couple in couples if couple[0] != couple[1])
    if not unique:
        raise InputError(f"match={match}: source and target are the same recording")
    return [(source, (target,)) for source, target in unique]


def from_table(path: Path) -> list[tuple[Path, Target]]:
    """The rows of a tab-separated table with columns source and target.

    Paths are relative to the table's folder; target may name several recordings between `|`.
    """
    couples = []
    for number, row in enumerate(table_rows(path, "pairs", {"source", "target"}), start=2):
        names = [name.strip() for name in row["target"].split(SEPARATOR) if name.strip()]
        if not row["source"].strip() or not names:
            raise InputError(f"pairs={path}: line {number} names no source or no target")
        source = path.parent / row["source"].strip()
        couples.append((source, tuple(path.parent / name for name in names)))
    return couples


def named(couples: Sequence[tuple[Path, Target]], folder: Path, suffix: str = ".wav") -> list[Job]:
    """Jobs that write folder/<source>_to_<target>.wav, or another suffix.

    Files of one name in several folders are told by their folders' names.
    """
    sources = _short_names(source for source, _ in couples)
    recordings = [target for _, target in couples if not isinstance(target, str)]
    targets = _short_names(_of_voice(target) for target in recordings)
    jobs = []
    for source, target in couples:
        voice = target if isinstance(target, str) else targets[_of_voice(target)]
        jobs.append(Job(source, target, folder / f"{sources[source]}_to_{voice}{suffix}"))
    twice = [name for name, n in Counter(job.output for job in jobs).items() if n > 1]
    if twice:
        raise InputError(f"{twice[0]}: two conversions would have this name; rename a recording")
    return jobs


def _of_voice(target: tuple[Path, ...]) -> Path:
    """The path that names a voice: the recording, or of several their folder."""
    return target[0] if len(target) == 1 else target[0].parent


def _short_names(paths: Iterable[Path]) -> dict[Path, str]:
    """A name for every path, with as many of its last parts as tell them apart."""
    paths = dict.fromkeys(paths)
    parts = {path: (*path.absolute().parent.parts[1:], path.stem) for path in paths}
    found = {}
    for depth in range(1, 1 + max((len(names) for names in parts.values()), default=0)):
        names = {path: "_".join(parts[path][-depth:]) for path in paths if path not in found}
        counts = Counter([*names.values(), *found.values()])
        found |= {path: name for path, name in names.items() if counts[name] == 1}
    rest = {
        path: f"{path.stem}_{path.suffix[1:].replace('?stream=', '_')}"
        for path in paths
        if path not in found
    }
    return found | rest


def row_of(job: Job, **values: object) -> Row:
    """A row with the names of a job."""
    target = job.target
    if not isinstance(target, str):
        target = SEPARATOR.join(map(str, target))
    return replace(Row(str(job.output), str(job.source), target), **values)


def write_table(folder: Path, rows: Iterable[Row]) -> Path:
    """Writes rows to conversions.csv, atomically, over those that it has of the same outputs."""
    path = folder / TABLE
    table = {row["output"]: row for row in _read_table(path)}
    for row in rows:
        values = {key: "" if value is None else value for key, value in asdict(row).items()}
        table[row.output] = {
            key: f"{value:.3f}" if isinstance(value, float) else value
            for key, value in values.items()
        }
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], restval="")
        writer.writeheader()
        writer.writerows(table.values())
    return path


def _read_table(path: Path) -> list[dict[str, str]]:
    """The rows of an earlier run; none where the file is missing or is somebody else's."""
    names = [field.name for field in fields(Row)]
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            return list(reader) if reader.fieldnames == names else []
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
