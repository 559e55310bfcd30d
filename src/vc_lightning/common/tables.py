"""Tab-separated tables with named columns."""

import csv
from pathlib import Path

from vc_lightning.common.errors import InputError

SEPARATOR = "|"  # between several recordings in one column


def table_rows(path: Path, key: str, columns: set[str]) -> list[dict[str, str]]:
    """Read the rows of a tab-separated table.

    Args:
        path: The table, in UTF-8.
        key: The config key that named it, for messages.
        columns: Names of the columns that it must have.

    Returns:
        One dictionary per row; missing cells are "".

    Raises:
        InputError: The table cannot be read, or lacks rows or columns.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{key}={path}: cannot be read ({error})") from error
    if not rows or not columns <= rows[0].keys():
        names = ", ".join(sorted(columns))
        raise InputError(f"{key}={path}: needs rows with tab-separated columns named {names}")
    return rows
