"""List the conversions of a command line, and write the table of their results."""

import csv
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from vc_lightning.common import parts
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import atomic_path
from vc_lightning.common.parts import Part
from vc_lightning.common.tables import SEPARATOR, table_rows
from vc_lightning.conversion.voices.voice import Target

TABLE = "conversions.csv"


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


@dataclass(frozen=True)
class Row:
    """The result of a job, a row of conversions.csv.

    Attributes:
        output: The file of the conversion.
        source: The source recording.
        target: The target recordings, separated by `|`, or the name of a learned voice.
        seconds: Duration of the conversion.
        before: Similarity of the source to the target speaker (cosine).
        to_target: Similarity of the conversion to the target speaker.
        to_source: Similarity of the conversion to the source speaker.
        real_time_factor: Computing time over `seconds`.
        error: Why there is no conversion, or "".
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

    Args:
        pairs: Each source with its target.
        folder: The output folder.
        suffix: Suffix of the files, which selects their format.

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


def row_of(job: Job) -> Row:
    """Make the row of a job that has no result yet."""
    target = job.target if isinstance(job.target, str) else SEPARATOR.join(map(str, job.target))
    return Row(str(job.output), str(job.source), target)


def table_path(folder: Path, part: Part | None = None) -> Path:
    """Return the path of the table: of the whole job, or of one part of it.

    Args:
        folder: The output folder.
        part: The part; None for the whole job.
    """
    if part is None:
        return folder / TABLE
    return folder / parts.FOLDER / f"{Path(TABLE).stem}_{part.stem}.csv"


def recorded_outputs(folder: Path, part: Part) -> set[str]:
    """List the outputs that have a row without an error, in a part's table or in the whole one."""
    tables = [table_path(folder, part), table_path(folder)]
    return {row["output"] for table in tables for row in _read_table(table) if not row["error"]}


def write_table(folder: Path, rows: Iterable[Row], part: Part | None = None) -> Path:
    """Write rows into the table, in place of earlier rows of the same outputs.

    The file is replaced as a whole, so a killed process leaves the earlier one.

    Args:
        folder: The output folder.
        rows: The rows.
        part: The part of the rows, which has a table of its own; None for the whole job.

    Returns:
        Path of the table.
    """
    path = table_path(folder, part)
    table = {row["output"]: row for row in _read_table(path)}
    for row in rows:
        values = {key: "" if value is None else value for key, value in asdict(row).items()}
        table[row.output] = {
            key: f"{value:.3f}" if isinstance(value, float) else value
            for key, value in values.items()
        }
    return _replace_table(path, table.values())


def merge_tables(folder: Path, jobs: Sequence[Job]) -> list[Job]:
    """Merge the tables of all parts into one, unless conversions are missing in them.

    Any number of parts may do this at the same time: each replaces the table as a whole.

    Args:
        folder: The output folder.
        jobs: All conversions of all parts, in the order of the table.

    Returns:
        The conversions that no part has finished; if there are any, nothing is written.
    """
    whole = table_path(folder)
    tables = list((folder / parts.FOLDER).glob(f"{whole.stem}_*_of_*.csv"))
    tables.sort(key=lambda path: path.stat().st_mtime)
    found: dict[str, dict] = {}
    for path in [whole, *tables]:  # the newest row of an output counts
        found |= {row["output"]: row for row in _read_table(path)}
    missing = [job for job in jobs if str(job.output) not in found]
    if not missing:
        names = [str(job.output) for job in jobs]
        of_earlier_runs = found.keys() - set(names)
        order = [*(name for name in found if name in of_earlier_runs), *names]
        _replace_table(whole, [found[name] for name in order])
    return missing


def count_errors(folder: Path, jobs: Sequence[Job]) -> int:
    """Count the jobs that the table of the whole job lists with an error."""
    failed = {row["output"] for row in _read_table(table_path(folder)) if row["error"]}
    return sum(str(job.output) in failed for job in jobs)


def _replace_table(path: Path, rows: Iterable[dict[str, str]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def _read_table(path: Path) -> list[dict[str, str]]:
    """Read the rows of a table; none where the file is missing or has other columns."""
    names = [field.name for field in fields(Row)]
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            return list(reader) if reader.fieldnames == names else []
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
