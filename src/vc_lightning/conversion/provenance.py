"""What a conversion's file says of itself: that it is one, made when, with which weights."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import soundfile

from vc_lightning.common.errors import InputError
from vc_lightning.common.files import require_file

SOFTWARE = "vc_lightning"
TITLE = f"Synthetic speech (voice conversion by {SOFTWARE})"
SENTENCE = (
    f"Synthetic speech: a voice conversion by {SOFTWARE}, not a recording of the person whose "
    "voice is heard."
)


@dataclass(frozen=True)
class Provenance:
    """The note of one conversion; no names of recordings or people and no folders are in it.

    Attributes: software, with its version; made, ISO 8601 in UTC; checkpoint, file name and the
        first 8 digits of the file's SHA-256; vocoder, its class; guidance, of the conversion.
    """

    software: str
    made: str
    checkpoint: str
    vocoder: str
    guidance: float


def of_conversion(checkpoint: str, vocoder: str, guidance: float) -> Provenance:
    """The note of a conversion that is made now; checkpoint as `fingerprint` names it."""
    made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Provenance(_software(), made, checkpoint, vocoder, float(guidance))


def fingerprint(checkpoint: Path | str) -> str:
    """Name of a weight file without its folder, and the first 8 digits of its SHA-256."""
    path = require_file(checkpoint)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    name = "".join(letter if letter.isprintable() else "?" for letter in path.name)
    return f"{name} {digest[:8]}"


def strings(note: Provenance) -> dict[str, str]:
    """What `audio.save` keeps of a note in a wav (LIST/INFO: INAM, ISFT, ICRD, ICMT)."""
    return {
        "title": TITLE,
        "software": note.software,
        "date": note.made,
        "comment": f"{SENTENCE} {json.dumps(asdict(note))}",
    }


def read(path: Path | str) -> Provenance | None:
    """The note that a file of any format carries; None where there is none of ours.

    Raises: InputError when the file is missing or not audio.
    """
    comment = _strings(path).get("comment", "")
    try:
        return _checked(Provenance(**json.loads(comment[comment.index("{") :])))
    except (ValueError, TypeError, RecursionError):  # somebody else's comment
        return None


def describe(path: Path | str) -> list[str]:
    """What a file says of itself, as lines for a person."""
    note = read(path)
    if note is not None:
        values = [f"{name:<10}  {value}" for name, value in asdict(note).items()]
        return [f"{path}: synthetic, a voice conversion", *values]
    if _strings(path).get("title") == TITLE:  # ffmpeg keeps it, and files the comment elsewhere
        return [
            f"{path}: synthetic, a voice conversion by {SOFTWARE}, as its title says; another "
            "program wrote this copy, and ffprobe may show more"
        ]
    return [
        f"{path}: carries no note of {SOFTWARE}; that proves nothing, for notes are lost when a "
        "file is cut or exported by other programs"
    ]


def _strings(path: Path | str) -> dict[str, str]:
    """The strings that libsndfile finds in a file."""
    path = require_file(path)
    try:
        with soundfile.SoundFile(path) as file:
            return file.copy_metadata()
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is not audio that libsndfile can read ({error})") from error


def _software() -> str:
    try:
        return f"{SOFTWARE} {metadata.version(SOFTWARE)}"
    except metadata.PackageNotFoundError:  # run from a checkout that was not installed
        return SOFTWARE


def _checked(note: Provenance) -> Provenance:
    """The note when it is ours; its words may come from anybody and end up on a terminal."""
    *words, guidance = asdict(note).values()
    if not all(isinstance(word, str) and word.isprintable() for word in words):
        raise ValueError("a note's words are printable text")
    if isinstance(guidance, bool) or not isinstance(guidance, int | float):
        raise TypeError("guidance is a number")
    if not re.match(rf"{SOFTWARE}\b", note.software):
        raise ValueError(f"the note is not of {SOFTWARE}")
    return note
