"""The server's endpoints: /convert, /voices, /live, /health, /metrics, and the page at /."""

import asyncio
import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Security
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from vc_lightning.audio.files import io as audio
from vc_lightning.common.errors import InputError
from vc_lightning.conversion import provenance
from vc_lightning.conversion.measuring import MeasuredConversion
from vc_lightning.conversion.voices.shelf import VoiceShelf
from vc_lightning.service.access import BEARER, HEADER, LIVE_ROUTE, Access, AccessMiddleware
from vc_lightning.service.engine.conversions import ConversionService
from vc_lightning.service.form import FORMATS, SCHEMA, read_form
from vc_lightning.service.live.desk import LiveDesk
from vc_lightning.service.metrics import CountAnswers
from vc_lightning.service.refusal import (
    RefusedError,
    answer_failure,
    answer_full_disk,
    answer_http_exception,
    answer_refusal,
)

log = logging.getLogger(__name__)

DESCRIPTION = """Convert a recording to the voice of another.

Convert only voices whose owners agreed. The metadata of every result mark it as synthetic."""
SOUND = {"schema": {"type": "string", "format": "binary"}}
ERROR = {
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": {"error": {"type": "string"}}}
        }
    }
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The conversion, as long as the source.",
        "content": dict.fromkeys(FORMATS.values(), SOUND),
    },
    400: {"description": "The form or a recording cannot be used.", **ERROR},
    401: {"description": "The key is missing or unknown.", **ERROR},
    403: {"description": "The request is of another site's page, and there is no key.", **ERROR},
    406: {"description": "The service has none of the accepted formats.", **ERROR},
    408: {"description": "The upload was too slow.", **ERROR},
    413: {"description": "The request is too large.", **ERROR},
    415: {"description": "The request is not a form.", **ERROR},
    429: {"description": "The queue is full; Retry-After gives the time to wait.", **ERROR},
    500: {"description": "The conversion failed; the server's log has the reason.", **ERROR},
    503: {"description": "The service is stopping, or the conversion took too long.", **ERROR},
}


class Result(FileResponse):
    """A response that sends a file within some seconds; `release` is called at the end."""

    def __init__(
        self,
        path: Path,
        kind: str,
        name: str,
        seconds: float,
        headers: dict[str, str],
        release: Callable[[], object],
    ):
        super().__init__(path, 200, headers, kind, filename=name)
        self._seconds = seconds
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, unless the client leaves or takes too long."""
        try:
            async with asyncio.timeout(self._seconds):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            log.warning("a client did not take its result within %g s", self._seconds)
        finally:
            self._release()


class ConversionApi:
    """The server's endpoints.

    Args:
        service: Makes the conversions.
        live: Serves live speech.
        access: The access rule.
        folder: Folder for recordings and results while a request runs.

    Attributes:
        app: The ASGI application.
    """

    def __init__(self, service: ConversionService, live: LiveDesk, access: Access, folder: Path):
        self.service = service
        self.live = live
        self.access = access
        self.folder = folder
        note = service.converters.get(service.converters.default).note()
        self._about = {"software": note.software, "checkpoint": note.checkpoint}
        self.app = self._make_app()

    def _make_app(self) -> FastAPI:
        app = FastAPIOffline(title="vc_lightning", description=DESCRIPTION, redoc_url=None)
        keyed = APIRouter(dependencies=[Security(BEARER), Security(HEADER)])
        keyed.add_api_route(
            "/convert",
            self.convert,
            methods=["POST"],
            response_class=Response,
            responses=ANSWERS,
            openapi_extra={"requestBody": SCHEMA},
        )
        keyed.add_api_route("/voices", self.voices)
        keyed.add_api_route("/metrics", self.read_metrics, response_class=PlainTextResponse)
        app.include_router(keyed)
        app.add_api_route("/health", self.health)
        app.add_api_websocket_route(LIVE_ROUTE, self.live.serve)
        app.add_middleware(AccessMiddleware, access=self.access)
        app.add_middleware(CountAnswers, metrics=self.service.metrics)  # the outermost
        app.exception_handler(RefusedError)(answer_refusal)
        app.exception_handler(HTTPException)(answer_http_exception)
        app.exception_handler(OSError)(answer_full_disk)
        app.exception_handler(Exception)(answer_failure)
        return app

    async def convert(self, request: Request) -> Response:
        """Convert `source` to the voice of `target` or to the learned `voice`."""
        service, limits = self.service, self.service.limits
        with contextlib.ExitStack() as stack:
            stack.enter_context(service.queue.place())
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            form = await read_form(request, folder, limits)

            async def watch(_: float | None) -> bool:
                return await request.is_disconnected()

            try:
                settings = replace(service.converters.default, **form.settings)
                prepared = await service.prepare(form.source, form.target, settings, watch=watch)
            except InputError as error:
                raise RefusedError(400, str(error)) from None
            made = await service.convert(prepared, watch)
            converter, path = prepared.converter, folder / f"result.{form.format}"
            strings = provenance.strings(converter.note())
            await asyncio.to_thread(audio.save, path, made.wav, converter.sample_rate, strings)
            return Result(
                path,
                FORMATS[form.format],
                f"conversion.{form.format}",
                limits.transfer_seconds,
                _headers(made, prepared.source.seconds),
                stack.pop_all().close,
            )

    async def voices(self) -> dict[str, list[str]]:
        """List the names of the learned voices."""
        return {"voices": await asyncio.to_thread(VoiceShelf(self.service.voices).names)}

    async def health(self) -> JSONResponse:
        """Show whether the service accepts requests, and how many it is serving."""
        queue = self.service.queue
        state = "stopping" if queue.is_stopping else "ready"
        facts = {"state": state, "requests": queue.n_requests, "live": self.live.n_clients}
        facts |= self._about
        return JSONResponse(facts, 503 if queue.is_stopping else 200)

    async def read_metrics(self) -> Response:
        """Show the metrics in Prometheus' text format."""
        return Response(self.service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _headers(made: MeasuredConversion, seconds: float) -> dict[str, str]:
    """Format the measurements of a conversion as headers."""
    values = {
        "Similarity-Before": made.before,
        "Similarity-To-Target": made.to_target,
        "Similarity-To-Source": made.to_source,
        "Real-Time-Factor": made.seconds / seconds,
    }
    return {f"X-{name}": f"{value:.3f}" for name, value in values.items() if value is not None}
