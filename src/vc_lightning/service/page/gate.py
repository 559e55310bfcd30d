"""Middleware that passes only the requests that the page and `gradio_client` need."""

import asyncio
import contextlib
import json
from collections.abc import Collection, Iterator

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vc_lightning.common.errors import InputError
from vc_lightning.service.engine.conversions import ConversionService
from vc_lightning.service.page.sessions import MAX_NAME
from vc_lightning.service.page.uploads import Uploads
from vc_lightning.service.refusal import SENTENCES, RefusedError, answer_refusal, as_json, body_of

ROUTES = (  # requested by the page and gradio_client; Gradio has many more
    *("/config", "/theme.css", "/assets/", "/static/", "/favicon.ico", "/manifest.json"),
    *("/gradio_api/queue/", "/gradio_api/run/", "/gradio_api/upload", "/gradio_api/heartbeat/"),
    *("/gradio_api/file=/", "/gradio_api/startup-events", "/gradio_api/cancel"),
    *("/gradio_api/info", "/gradio_api/reset"),
)
UPLOAD = "/gradio_api/upload"
HEARTBEAT = "/gradio_api/heartbeat/"  # open for as long as a page, whose session it names
MAX_BODY_BYTES = 2**18  # of requests that are not uploads, because these only name files


class Gate:
    """Refuse other routes and events, uploads beyond the limits, and files not uploaded here.

    An upload takes a place of the queue while it comes in, like a request to /convert. If a request
    names a URL as a file, Gradio downloads it. The gate therefore reads every request but uploads
    first, and refuses it if it names a file that is not an upload or a result.

    Args:
        app: The application behind the gate.
        uploads: The files that requests may name.
        service: Its limits and its queue bound the uploads.
        events: The numbers of the page's events.
    """

    def __init__(
        self, app: ASGIApp, uploads: Uploads, service: ConversionService, events: Collection[int]
    ):
        self.app = app
        self.uploads = uploads
        self.service = service
        self.events = events
        self._n_uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        path = scope["path"]
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        try:
            if path not in ("", "/") and not path.startswith(ROUTES):
                raise RefusedError(404, SENTENCES[404])
            if path.startswith(HEARTBEAT):
                _check_name(path.removeprefix(HEARTBEAT))
            if scope["method"] == "POST" and path == UPLOAD:
                with self._upload():
                    async with asyncio.timeout(self.service.limits.transfer_seconds):
                        await self.app(scope, receive, send)
                return
            if scope["method"] == "POST":
                body = await body_of(Request(scope, receive), MAX_BODY_BYTES)
                self._check(body)
                receive = _replayed(body, receive)
        except RefusedError as error:
            await (await answer_refusal(Request(scope, receive), error))(scope, receive, send)
            return
        except TimeoutError:
            sentence = f"the upload took longer than {self.service.limits.transfer_seconds:g} s"
            await as_json(408, sentence, {})(scope, receive, send)
            return
        await self.app(scope, receive, send)

    @contextlib.contextmanager
    def _upload(self) -> Iterator[None]:
        """Hold a place of the queue, if the disk has room for the upload.

        What Gradio leaves of an upload that breaks off, or of files that are not `files`, is
        deleted: at once if it is the only upload, else when it is too old to be one of the others.

        Raises:
            RefusedError: There is no room, or it is not an upload.
        """
        limits = self.service.limits
        self.uploads.delete_parts(limits.transfer_seconds)
        if self.uploads.n_bytes() > limits.max_requests * limits.max_megabytes * 1e6:
            raise RefusedError(
                503, "the server holds too many recordings; try again in some minutes", unread=True
            )
        with self.service.queue.place():
            self._n_uploads += 1
            try:
                yield
            except TypeError:  # of Gradio
                raise RefusedError(400, "files: give recordings, not text") from None
            except ClientDisconnect:
                raise RefusedError(400, "the upload was cut short") from None
            finally:
                self._n_uploads -= 1
                if not self._n_uploads:
                    self.uploads.delete_parts(0)

    def _check(self, body: bytes) -> None:
        """Check the event and the files that a request names."""
        try:
            content = json.loads(body or b"null")
            event = content.get("fn_index") if isinstance(content, dict) else None
            if event is not None and not (isinstance(event, int) and event in self.events):
                raise RefusedError(400, "fn_index: the page has no such event; load it again")
            if isinstance(content, dict):
                _check_name(content.get("session_hash") or "")
            for path in _named_files(content):
                self.uploads.require(path)
        except InputError as error:
            raise RefusedError(403, str(error)) from None
        except (ValueError, RecursionError):
            raise RefusedError(400, "the request is not JSON") from None


def _check_name(session: object) -> None:
    """Refuse a name of a session that takes more memory than those of Gradio."""
    if not isinstance(session, str) or len(session) > MAX_NAME:
        raise RefusedError(400, f"session_hash: give at most {MAX_NAME} characters")


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
