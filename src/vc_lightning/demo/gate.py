"""Middleware that passes only the requests that the page and `gradio_client` need."""

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vc_lightning.common.errors import InputError
from vc_lightning.demo.uploads import Uploads

ROUTES = (  # requested by the page and gradio_client; Gradio has many more
    *("/config", "/theme.css", "/assets/", "/static/", "/favicon.ico", "/manifest.json"),
    *("/gradio_api/queue/", "/gradio_api/run/", "/gradio_api/upload", "/gradio_api/heartbeat/"),
    *("/gradio_api/file=/", "/gradio_api/startup-events", "/gradio_api/cancel"),
    *("/gradio_api/info", "/gradio_api/reset", "/live/"),
)
UPLOAD = "/gradio_api/upload"
MAX_BODY_BYTES = 2**18  # of requests that are not uploads, because these only name files


class Gate:
    """Refuse other routes, foreign origins and files that were not uploaded here.

    If a request names a URL as a file, Gradio downloads it. The gate therefore reads every request
    but uploads first, and refuses it if it names a file that is not an upload or a result.

    Args:
        app: The application behind the gate.
        uploads: The files that requests may name.
    """

    def __init__(self, app: ASGIApp, uploads: Uploads):
        self.app = app
        self.uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it.

        Args:
            scope: The ASGI scope.
            receive: Gives the messages of the request.
            send: Takes the messages of the answer.
        """
        path = scope.get("path", "/")
        if scope["type"] == "websocket":
            if not path.startswith("/live/") or _is_foreign(scope):
                await send({"type": "websocket.close", "code": 1008})
                return
        elif scope["type"] == "http":
            if path != "/" and not path.startswith(ROUTES):
                await PlainTextResponse("there is no such page", 404)(scope, receive, send)
                return
            if scope["method"] == "POST" and path != UPLOAD:
                body = await _read(receive)
                refusal = self._refusal(body)
                if refusal:
                    await PlainTextResponse(*refusal)(scope, receive, send)
                    return
                receive = _replayed(body, receive)
        await self.app(scope, receive, send)

    def _refusal(self, body: bytes) -> tuple[str, int] | None:
        """Check the files that a request names; return sentence and status of a refusal."""
        if len(body) > MAX_BODY_BYTES:
            return f"the request has more than {MAX_BODY_BYTES} bytes; upload recordings first", 413
        try:
            for path in _named_files(json.loads(body or b"null")):
                self.uploads.require(path)
        except InputError as error:
            return str(error), 403
        except (ValueError, RecursionError):
            return "the request is not JSON", 400
        return None


def _named_files(content: object) -> Iterator[object]:
    """Find the values of `path` anywhere in a request, which is how Gradio names files."""
    if isinstance(content, dict):
        if content.get("path") is not None:
            yield content["path"]
        for value in content.values():
            yield from _named_files(value)
    elif isinstance(content, list):
        for value in content:
            yield from _named_files(value)


async def _read(receive: Receive) -> bytes:
    """Read the body of a request, up to just beyond the allowed size."""
    body = b""
    while len(body) <= MAX_BODY_BYTES:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Make a `receive` that first gives a body that was already read, then the later messages."""
    is_given = False

    async def replay() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _is_foreign(scope: Scope) -> bool:
    """Return whether a page of another site opened the connection, which browsers allow."""
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host")
