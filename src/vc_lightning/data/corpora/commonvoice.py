"""Mozilla Common Voice: volunteers who read a few sentences each, in 130 languages.

A language's folder holds `clips/*.mp3` and tables of them. Every clip that two listeners have
confirmed is in `validated.tsv`; a speaker with a clip in `dev.tsv` or `test.tsv` belongs to that
split with all clips, so that the splits share no speaker.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from vc_lightning.common.errors import InputError
from vc_lightning.common.tables import table_rows
from vc_lightning.data.corpora.recordings import LeftOut, Listed, Recording, sex

HELD_OUT = {"dev.tsv": "val", "test.tsv": "test"}
UNCONFIRMED = {
    "other.tsv": "have not been confirmed by two listeners (other.tsv)",
    "invalidated.tsv": "were rejected by listeners (invalidated.tsv)",
}
NAME_DIGITS = 16  # of the 128 digits of a client_id that name a speaker
MS = "duration[ms]"  # column of clip_durations.tsv


def read(root: Path, languages: Sequence[str], licence: str) -> Listed:
    """List the confirmed clips of Common Voice.

    Args:
        root: The folder of a language, or a folder of such folders.
        languages: Languages to take, such as ["en", "fr"]; [] takes all.
        licence: Its licence.

    Raises:
        InputError: The folder is not Common Voice, or lacks a language.
    """
    root = Path(root)
    found = {path.parent.name: path.parent for path in sorted(root.glob("**/validated.tsv"))}
    if not found:
        raise InputError(
            f"root={root}: is not Common Voice as unpacked, which holds LANGUAGE/validated.tsv"
        )
    for language in languages or found:
        if language not in found:
            raise InputError(
                f"corpus.languages={language}: is not in {root}, which holds {', '.join(found)}"
            )
        yield from _read_language(found[language], language, licence)


def _read_language(folder: Path, language: str, licence: str) -> Listed:
    splits = {
        row["client_id"]: split
        for name, split in HELD_OUT.items()
        for row in _rows(folder / name, {"client_id"})
    }
    seconds = {
        row["clip"]: float(row[MS]) / 1000
        for row in _rows(folder / "clip_durations.tsv", {"clip", MS})
        if row[MS].isdigit()
    }
    for row in _rows(folder / "validated.tsv", {"client_id", "path", "sentence"}):
        speaker = row["client_id"]
        path = folder / "clips" / row["path"]
        if not row["path"] or not speaker:
            yield LeftOut("lack a speaker or a file in validated.tsv", row["sentence"])
        elif not path.is_file():
            yield LeftOut("are in validated.tsv but not in clips/", row["path"])
        else:
            yield Recording(
                path,
                speaker[:NAME_DIGITS],
                splits.get(speaker, "train"),
                row.get("locale") or language,
                sex(row.get("gender")),
                row["sentence"],
                licence,
                seconds.get(row["path"]),
            )
    for name, reason in UNCONFIRMED.items():
        rows = list(_rows(folder / name, {"path"}))
        if rows:
            yield LeftOut(reason, rows[0]["path"], len(rows))


def _rows(path: Path, columns: set[str]) -> Iterator[dict[str, str]]:
    """Read a table of Common Voice; nothing where it is missing or has no rows."""
    if path.is_file():
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            is_empty = not any(line.strip() for line in list(file.readlines(2**20))[1:])
        if not is_empty:
            yield from table_rows(path, "root", columns)
