"""The note in a conversion's file: it is synthetic, when it was made, and with which weights."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from vc_lightning.audio import watermark
from vc_lightning.audio.files import decoding, io
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import require_file

SOFTWARE = "vc_lightning"
TITLE = f"Synthetic speech (voice conversion by {SOFTWARE})"
SEARCHED_SECONDS = 600  # for a watermark
SENTENCE = (
    f"Synthetic speech: a voice conversion by {SOFTWARE}, not a recording of the person whose "
    "voice is heard."
)


@dataclass(frozen=True)
class Provenance:
    """The note of one conversion; it names no recordings, people or folders.

    Attributes:
        software: Name and version of the program.
        made: Date and time, ISO 8601 in UTC.
        checkpoint: File name of the weights and the first 8 digits of the file's SHA-256.
        vocoder: Name of the vocoder's class.
        guidance: Guidance of the conversion.
    """

    software: str
    made: str
    checkpoint: str
    vocoder: str
    guidance: float


def of_conversion(checkpoint: str, vocoder: str, guidance: float) -> Provenance:
    """Return the note of a conversion that is made now; see `Provenance`."""
    try:
        software = f"{SOFTWARE} {metadata.version(SOFTWARE)}"
    except metadata.PackageNotFoundError:  # run from a checkout that was not installed
        software = SOFTWARE
    made = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Provenance(software, made, checkpoint, vocoder, float(guidance))


def fingerprint(checkpoint: Path | str) -> str:
    """Return a weight file's name without its folder, and the first 8 digits of its SHA-256.

    Raises:
        InputError: The file cannot be read.
    """
    path = require_file(checkpoint)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    name = "".join(letter if letter.isprintable() else "?" for letter in path.name)
    return f"{name} {digest[:8]}"


def strings(note: Provenance) -> dict[str, str]:
    """Return a note as the text tags that `save` in `audio.io` writes.

    In a wav they are LIST/INFO strings (INAM, ISFT, ICRD, ICMT), in flac, ogg and opus Vorbis
    comments, in mp3 ID3 frames and in m4a MPEG-4 metadata. The comment holds the whole note,
    because mp3 and m4a keep less of the other tags.
    """
    return {
        "title": TITLE,
        "software": note.software,
        "date": note.made,
        "comment": f"{SENTENCE} {json.dumps(asdict(note))}",
    }


def read(path: Path | str) -> Provenance | None:
    """Return the note in a file of any format, or None if the file has no note of this software.

    Raises:
        InputError: The file is missing or not audio.
    """
    comment = decoding.tags(path).get("comment", "")
    try:
        return _checked(Provenance(**json.loads(comment[comment.index("{") :])))
    except (ValueError, TypeError, RecursionError):  # a comment of other software
        return None


def describe(path: Path | str) -> list[str]:
    """Describe a file's origin, as far as its tags state it, in lines for a person.

    Raises:
        InputError: The file is missing or not audio.
    """
    note = read(path)
    if note is not None:
        values = [f"{name:<10}  {value}" for name, value in asdict(note).items()]
        return [f"{path}: synthetic, a voice conversion", *values]
    if decoding.tags(path).get("title") == TITLE:  # ffmpeg moves a wav's comment elsewhere
        return [
            f"{path}: synthetic, a voice conversion by {SOFTWARE}, as its title says; another "
            "program wrote this copy, and ffprobe may show more"
        ]
    return [
        f"{path}: carries no note of {SOFTWARE}; that proves nothing, for notes are lost when a "
        "file is cut or exported by other programs"
    ]


def describe_sound(path: Path | str) -> str:
    """Say in a line for a person whether the sound's first ten minutes are marked.

    See `audio.watermark`.
    """
    try:
        wav, rate = io.load(path)
    except InputError as error:
        return f"watermark   not looked for: {error}"
    mark = watermark.detect(wav[: SEARCHED_SECONDS * rate], rate)
    return (
        f"watermark   {'found' if mark.found else 'not found'} (score {mark.score:.1f}; chance "
        f"stays below {watermark.THRESHOLD:g})"
    )


def _checked(note: Provenance) -> Provenance:
    """Check a note, because anybody may have written it and a terminal shows it.

    Raises:
        ValueError: A text is not printable, or the note is another program's.
        TypeError: The guidance is not a number.
    """
    *words, guidance = asdict(note).values()
    if not all(isinstance(word, str) and word.isprintable() for word in words):
        raise ValueError("a note's words are printable text")
    if isinstance(guidance, bool) or not isinstance(guidance, int | float):
        raise TypeError("guidance is a number")
    if not re.match(rf"{SOFTWARE}\b", note.software):
        raise ValueError(f"the note is not of {SOFTWARE}")
    return note
