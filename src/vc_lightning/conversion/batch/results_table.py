"""The table of the results of many conversions, of a whole job or of its parts."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from vc_lightning.common import parts
from vc_lightning.common.files import atomic_path
from vc_lightning.common.parts import Part
from vc_lightning.common.tables import SEPARATOR
from vc_lightning.conversion.batch.jobs import Job

TABLE = "conversions.csv"


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


def row_of(job: Job) -> Row:
    """Make the row of a job that has no result yet."""
    target = job.target if isinstance(job.target, str) else SEPARATOR.join(map(str, job.target))
    return Row(str(job.output), str(job.source), target)


def table_path(folder: Path, part: Part | None = None) -> Path:
    """Return the path of the table in the output folder: of the whole job, or of one part of it."""
    if part is None:
        return folder / TABLE
    return folder / parts.FOLDER / f"{Path(TABLE).stem}_{part.stem}.csv"


def recorded_outputs(folder: Path, part: Part) -> set[str]:
    """List the outputs that have a row without an error, in a part's table or in the whole one."""
    tables = [table_path(folder, part), table_path(folder)]
    return {row["output"] for table in tables for row in _read_table(table) if not row["error"]}


def write_table(folder: Path, rows: Iterable[Row], part: Part | None = None) -> Path:
    """Write rows into the table, in place of earlier rows of the same outputs, and return its path.

    The file is replaced as a whole, so a killed process leaves the earlier one.
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
