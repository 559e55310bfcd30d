"""Answers to refused requests: a status and one sentence."""

import asyncio
import logging
import traceback
from pathlib import Path

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

log = logging.getLogger(__name__)

UNREAD_SECONDS = 2.0  # for reading the rest of a refused upload
UNREAD_BYTES = 100_000_000
STOPPING = "the service is stopping; try again later"
PLACES = 4  # of an error in the log: the last calls
SENTENCES = {  # for requests that the framework refuses
    404: "there is no such address; /docs lists all addresses",
    405: "this address does not take that method; /docs lists its methods",
}


class RefusedError(Exception):
    """Refuses a request.

    Args:
        status: HTTP status code.
        sentence: The problem and its remedy.
        retry_after: Seconds after which the client may try again; None for no such header.
        unread: Whether the body of the request has not been read.
    """

    def __init__(
        self, status: int, sentence: str, retry_after: int | None = None, unread: bool = False
    ):
        super().__init__(sentence)
        self.status = status
        self.retry_after = retry_after
        self.unread = unread


async def answer_refusal(request: Request, error: RefusedError) -> JSONResponse:
    """Answer a refused request.

    The rest of its body is read and dropped, because many clients read no answer while they send.
    """
    if error.unread and "expect" not in request.headers:
        await _drop_body(request)
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return as_json(error.status, str(error), headers)


async def answer_failure(_: Request, error: Exception) -> JSONResponse:
    """Answer a request whose handling failed, a bug; the log gets what `without_message` gives."""
    return as_json(500, f"the service failed ({type(error).__name__}); its log has the reason", {})


async def answer_full_disk(_: Request, error: OSError) -> JSONResponse:
    """Answer a request whose files could not be written; the log gets the reason."""
    log.error("a file could not be written: %s", error.strerror)
    return as_json(503, "the server cannot store recordings now; try again later", {})


def without_message(error: BaseException) -> str:
    """Describe an error by its type and place, without its message.

    Messages may name recordings, voices and folders, which no log shall hold.
    """
    frames = traceback.extract_tb(error.__traceback__)[-PLACES:]
    places = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__} ({places})"


async def answer_http_exception(_: Request, error: HTTPException) -> JSONResponse:
    """Answer a request that the framework refuses, such as an unknown address."""
    sentence = SENTENCES.get(error.status_code, str(error.detail))
    return as_json(error.status_code, sentence, dict(error.headers or {}))


def as_json(status: int, sentence: str, headers: dict[str, str]) -> JSONResponse:
    """Format an error as JSON; unprintable characters of the sentence become spaces."""
    printable = "".join(letter if letter.isprintable() else " " for letter in sentence)
    return JSONResponse({"error": " ".join(printable.split())}, status, headers)


async def body_of(request: Request, max_bytes: int) -> bytes:
    """Read a small body.

    Raises:
        RefusedError: It is larger, or does not come within `UNREAD_SECONDS`.
    """
    body = b""
    try:
        async with asyncio.timeout(UNREAD_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise RefusedError(413, f"the request has more than {max_bytes} bytes")
    except (TimeoutError, ClientDisconnect):
        raise RefusedError(408, "the request did not come to its end") from None
    return body


async def _drop_body(request: Request) -> None:
    """Read a body to its end, up to limits of time and size."""
    n_bytes = 0
    try:
        async with asyncio.timeout(UNREAD_SECONDS):
            async for chunk in request.stream():
                n_bytes += len(chunk)
                if n_bytes > UNREAD_BYTES:
                    return
    except (TimeoutError, ClientDisconnect):
        return
