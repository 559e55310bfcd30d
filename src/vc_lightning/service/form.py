"""Read the form of POST /convert and write its files to disk, within limits of size and time."""

import asyncio
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message

from vc_lightning.conversion.voices.voice import Target
from vc_lightning.service.limits import ServiceLimits
from vc_lightning.service.refusal import RefusedError

FRAME_BYTES = 100_000  # largest size of a form's parts other than files
MAX_TEXT_BYTES = 4_096  # of a text field
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
FIELDS: dict[str, dict[str, Any]] = {  # of the form, as the OpenAPI page describes them
    "source": {"type": "string", "format": "binary", "description": "The source recording."},
    "target": {
        "type": "array",
        "items": {"type": "string", "format": "binary"},
        "description": "One or several recordings of the target voice.",
    },
    "voice": {"type": "string", "description": "Name of a learned voice, instead of target."},
    "format": {"type": "string", "enum": sorted(FORMATS)},
    "checkpoint": {"type": "string", "description": "An offered checkpoint."},
    "vocoder": {"type": "string", "description": "An offered vocoder."},
    "guidance": {"type": "number"},
    "seed": {"type": "integer"},
}
SCHEMA = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {"type": "object", "required": ["source"], "properties": FIELDS}
        }
    },
}
READERS = {"string": str, "number": float, "integer": int}  # of the types in `FIELDS`


@dataclass(frozen=True)
class ConversionForm:
    """The checked form of a request.

    Attributes:
        source: Path of the source recording.
        target: Paths of recordings of the target voice, or the name of a learned voice.
        format: "wav" or "flac".
        settings: Values of the fields of `Settings` that were sent.
    """

    source: Path
    target: Target
    format: str
    settings: dict[str, Any]


async def read_form(request: Request, folder: Path, limits: ServiceLimits) -> ConversionForm:
    """Read a form; write its recordings into a folder.

    Raises:
        RefusedError: The upload is too large, too slow or not a form; or a field is wrong.
    """
    kind = request.headers.get("content-type", "")
    if not kind.lower().startswith("multipart/form-data"):
        raise RefusedError(
            415, "send a form: multipart/form-data with the files source and target", unread=True
        )
    limit = limits.max_megabytes * 1e6 + FRAME_BYTES
    too_large = f"the request is too large; give at most {limits.max_megabytes:g} MB of recordings"
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
        async with asyncio.timeout(limits.transfer_seconds):
            form = await Request(request.scope, receive).form(
                max_files=1 + limits.max_targets,
                max_fields=len(FIELDS),
                max_part_size=MAX_TEXT_BYTES,
            )
    except TimeoutError:
        sentence = f"the upload took longer than {limits.transfer_seconds:g} s"
        raise RefusedError(408, sentence) from None
    except ClientDisconnect:
        raise RefusedError(400, "the upload was cut short") from None
    except HTTPException as error:
        raise RefusedError(400, f"the form cannot be read ({error.detail})") from None
    except (ValueError, LookupError, AssertionError) as error:  # raised by the parser
        raise RefusedError(400, f"the form cannot be read ({type(error).__name__})") from None
    try:
        return await asyncio.to_thread(_saved, form, request.headers.get("accept", ""), folder)
    finally:
        await form.close()


def _saved(form: FormData, accept: str, folder: Path) -> ConversionForm:
    """Check the fields and write the files."""
    files: dict[str, list[UploadFile]] = {"source": [], "target": []}
    texts: dict[str, str] = {}
    for field, value in form.multi_items():
        if field in files:
            if not isinstance(value, UploadFile):
                raise RefusedError(400, f"{field}: give a file, not text")
            files[field].append(value)
        elif field in FIELDS:
            if not isinstance(value, str):
                raise RefusedError(400, f"{field}: give text, not a file")
            if field in texts:
                raise RefusedError(400, f"{field}: was sent twice; send it once")
            texts[field] = value
        else:
            raise RefusedError(
                400, f"{field[:40]!r}: is not a field; choose from {', '.join(FIELDS)}"
            )
    sources, targets = files["source"], files["target"]
    voice = texts.pop("voice", "")
    if len(sources) != 1:
        raise RefusedError(400, f"source: {len(sources)} recordings were sent; send one")
    if bool(targets) == bool(voice):
        raise RefusedError(
            400, "give either target (recordings of a voice) or voice (one learned name)"
        )
    format = texts.pop("format").lower() if "format" in texts else preferred(accept)
    if format not in FORMATS:
        raise RefusedError(400, f"format={format[:40]!r}: choose one of {', '.join(FORMATS)}")
    settings = {field: _number(field, text) for field, text in texts.items()}
    source = _write(sources[0], folder / "source")
    if voice:
        return ConversionForm(source, voice, format, settings)
    paths = [_write(file, folder / f"target{index + 1}") for index, file in enumerate(targets)]
    return ConversionForm(source, tuple(paths), format, settings)


def _number(field: str, text: str) -> str | float | int:
    """Read the value of a setting."""
    try:
        return READERS[FIELDS[field]["type"]](text)
    except ValueError:
        raise RefusedError(400, f"{field}={text[:40]}: give a number") from None


def _write(upload: UploadFile, place: Path) -> Path:
    """Write an upload to a file, with the suffix of its name if that is a plain one."""
    suffix = Path(upload.filename or "").suffix
    path = place.with_suffix(suffix.lower() if SUFFIX.fullmatch(suffix) else ".wav")
    with path.open("wb") as file:
        shutil.copyfileobj(upload.file, file)
    return path


def preferred(accept: str) -> str:
    """Choose the format that a header such as `audio/flac, audio/wav;q=0.5` prefers; "" takes any.

    Raises:
        RefusedError: The header accepts none of the formats (406).
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
        raise RefusedError(406, f"the header Accept: give {' or '.join(FORMATS.values())}")
    return best
