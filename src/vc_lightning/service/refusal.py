"""Answers to refused requests: a status and one sentence."""

import asyncio

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

UNREAD_SECONDS = 2.0  # for reading the rest of a refused upload
UNREAD_BYTES = 100_000_000
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

    Args:
        request: The request. The rest of its body is read and dropped, because many clients read no
            answer while they are sending.
        error: The reason.
    """
    if error.unread and "expect" not in request.headers:
        await _drop_body(request)
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return as_json(error.status, str(error), headers)


async def answer_http_exception(_: Request, error: HTTPException) -> JSONResponse:
    """Answer a request that the framework refuses, such as an unknown address.

    Args:
        _: The request.
        error: The framework's exception.
    """
    sentence = SENTENCES.get(error.status_code, str(error.detail))
    return as_json(error.status_code, sentence, dict(error.headers or {}))


def as_json(status: int, sentence: str, headers: dict[str, str]) -> JSONResponse:
    """Format an error as JSON.

    Args:
        status: HTTP status code.
        sentence: Value of the key `error`; unprintable characters become spaces.
        headers: Further headers.
    """
    printable = "".join(letter if letter.isprintable() else " " for letter in sentence)
    return JSONResponse({"error": " ".join(printable.split())}, status, headers)


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
