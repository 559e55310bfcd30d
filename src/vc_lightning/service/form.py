"""Read the form of POST /convert onto the disk, within limits of size and time."""

import asyncio
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message

from vc_lightning.conversion.jobs import Target
from vc_lightning.service.refusal import RefusedError

FIELDS = ("source", "target", "voice", "format")
FRAME_BYTES = 100_000  # of a form beside its files
MAX_TEXT_BYTES = 4_096  # of a field that is no file
SUFFIX = re.compile(r"\.\w{1,8}", re.ASCII)
FORMATS = {"wav": "audio/wav", "flac": "audio/flac"}
ACCEPTED = {  # media types in requests
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/flac": "flac",
    "audio/x-flac": "flac",
    "audio/*": "wav",
    "*/*": "wav",
}
SCHEMA = {  # of the form, for the OpenAPI page
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["source"],
                "properties": {
                    "source": {
                        "type": "string",
                        "format": "binary",
                        "description": "Recording of the words.",
                    },
                    "target": {
                        "type": "array",
                        "items": {"type": "string", "format": "binary"},
                        "description": "One or several recordings of one voice.",
                    },
                    "voice": {
                        "type": "string",
                        "description": "Name of a learned voice, in place of target.",
                    },
                    "format": {"type": "string", "enum": sorted(FORMATS)},
                },
            }
        }
    },
}


@dataclass(frozen=True)
class ConversionForm:
    """What a request asks for.

    Attributes:
        source: Path of the recording of the words.
        target: Paths of recordings of one voice, or the name of a learned one.
        format: wav or flac.
        names: Path of every recording and its field, for error messages.
    """

    source: Path
    target: Target
    format: str
    names: dict[Path, str]


async def read_form(
    request: Request, folder: Path, *, max_bytes: int, max_targets: int, seconds: float
) -> ConversionForm:
    """Reads a form; its files go to the disk while they arrive.

    Args:
        request: The request.
        folder: Where the recordings shall lie.
        max_bytes: Of all recordings together.
        max_targets: Recordings of the voice.
        seconds: For the whole upload.

    Raises:
        RefusedError: The form is too large, too slow, no form, or lacks something.
    """
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise RefusedError(
            415, "send a form: multipart/form-data with the files source and target", unread=True
        )
    limit = max_bytes + FRAME_BYTES
    too_large = f"the request is too large; give at most {max_bytes / 1e6:g} MB of recordings"
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > limit:
        raise RefusedError(413, too_large, unread=True)
    n_bytes = 0

    async def receive() -> Message:
        nonlocal n_bytes
        message = await request.receive()
        n_bytes += len(message.get("body", b""))
        if n_bytes > limit:
            raise RefusedError(413, too_large)
        return message

    try:
        async with asyncio.timeout(seconds):
            form = await Request(request.scope, receive).form(
                max_files=1 + max_targets, max_fields=len(FIELDS), max_part_size=MAX_TEXT_BYTES
            )
    except TimeoutError:
        raise RefusedError(408, f"the upload took longer than {seconds:g} s") from None
    except ClientDisconnect:
        raise RefusedError(400, "the upload was cut short") from None
    except HTTPException as error:
        raise RefusedError(400, f"the form cannot be read ({error.detail})") from None
    except (ValueError, LookupError, AssertionError) as error:  # of a parser that meets nonsense
        raise RefusedError(400, f"the form cannot be read ({type(error).__name__})") from None
    async with _closing(form):
        return await asyncio.to_thread(_saved, form, request.headers.get("accept", ""), folder)


class _closing:  # noqa: N801  like contextlib's
    """Closes a form's files at the end of a block."""

    def __init__(self, form: FormData):
        self.form = form

    async def __aenter__(self) -> None:
        """Nothing."""

    async def __aexit__(self, *_: object) -> None:
        """Closes them."""
        await self.form.close()


def _saved(form: FormData, accept: str, folder: Path) -> ConversionForm:
    """Checks the fields and writes the files."""
    for field, value in form.multi_items():
        if field not in FIELDS:
            raise RefusedError(400, f"{field[:40]!r}: is none of the fields {', '.join(FIELDS)}")
        if isinstance(value, UploadFile) != (field in ("source", "target")):
            kind = "text, not a file" if field in ("voice", "format") else "a file, not text"
            raise RefusedError(400, f"{field}: give {kind}")
    sources, targets = form.getlist("source"), form.getlist("target")
    voices, formats = form.getlist("voice"), form.getlist("format")
    if len(sources) != 1:
        raise RefusedError(400, f"source: {len(sources)} recordings were sent; send one")
    if bool(targets) == bool(voices) or len(voices) > 1 or len(formats) > 1:
        raise RefusedError(
            400, "give either target, recordings of a voice, or voice, one learned name"
        )
    format = formats[0].lower() if formats else preferred(accept)
    if format not in FORMATS:
        raise RefusedError(400, f"format: {format[:40]!r} is none of {', '.join(FORMATS)}")
    names = {_write(sources[0], folder / "source"): "source"}
    (source,) = names
    if voices:
        return ConversionForm(source, voices[0], format, names)
    paths = [_write(file, folder / f"target{index + 1}") for index, file in enumerate(targets)]
    return ConversionForm(source, tuple(paths), format, names | dict.fromkeys(paths, "target"))


def _write(upload: UploadFile, place: Path) -> Path:
    """Writes an upload to a place, with the suffix of its name where that is a plain one."""
    suffix = Path(upload.filename or "").suffix
    path = place.with_suffix(suffix.lower() if SUFFIX.fullmatch(suffix) else ".wav")
    with path.open("wb") as file:
        shutil.copyfileobj(upload.file, file)
    return path


def preferred(accept: str) -> str:
    """The format that a header `Accept` prefers.

    Args:
        accept: The header, such as `audio/flac, audio/wav;q=0.5`; "" accepts everything.

    Raises:
        RefusedError: It accepts none of ours (406).
    """
    best, best_weight = None, 0.0
    for item in (accept or "*/*").split(","):
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            if match := re.fullmatch(r"q\s*=\s*(\d?\.?\d{1,3})", parameter):
                weight = float(match[1])
        if kind in ACCEPTED and weight > best_weight:
            best, best_weight = ACCEPTED[kind], weight
    if best is None:
        raise RefusedError(406, f"accept: give {' or '.join(FORMATS.values())}")
    return best
