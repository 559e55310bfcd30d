"""The service's endpoints: POST /convert, GET /voices, /health and /metrics."""

import asyncio
import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from vc_lightning.common.errors import InputError, require_at_least, require_within
from vc_lightning.conversion import voice_library
from vc_lightning.conversion.jobs import Job, Row
from vc_lightning.conversion.limits import RecordingLimits, without_folders
from vc_lightning.service.access import Access
from vc_lightning.service.conversion_queue import ConversionQueue, Converts
from vc_lightning.service.form import FORMATS, SCHEMA, ConversionForm, read_form
from vc_lightning.service.metrics import CountAnswers, Metrics
from vc_lightning.service.refusal import RefusedError, answer_http_exception, answer_refusal

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
    415: {"description": "The request is no form.", **ERROR},
    429: {"description": "The queue is full; Retry-After gives the time to wait.", **ERROR},
    500: {"description": "The conversion failed; the server's log has the reason.", **ERROR},
    503: {"description": "The service is stopping, or the conversion took too long.", **ERROR},
}


@dataclass(frozen=True)
class ServiceLimits:
    """Limits of one request and of all requests together.

    Attributes:
        max_seconds: Longest recording, in seconds.
        max_megabytes: Largest size of all recordings of one request together, in MB.
        max_targets: Most recordings of a target voice.
        max_requests: Most requests that upload, wait or are converted at the same time.
        batch_size: Most conversions in a batch.
        batch_seconds: Largest product of a batch's size and its longest source, in seconds.
        transfer_seconds: Longest time of an upload, and of the download of a result.
        wait_seconds: Longest time in the queue, including the conversion.

    Raises:
        InputError: A limit is out of range.
    """

    max_seconds: float
    max_megabytes: float
    max_targets: int
    max_requests: int
    batch_size: int
    batch_seconds: float
    transfer_seconds: float
    wait_seconds: float

    def __post_init__(self) -> None:
        """Check that the limits are in range."""
        _ = self.recordings  # checks its own
        counts = ("max_targets", "max_requests", "batch_size")
        require_at_least(1, "", **{name: getattr(self, name) for name in counts})
        times = ("batch_seconds", "transfer_seconds", "wait_seconds")
        require_within(0.1, 1e6, "", **{name: getattr(self, name) for name in times})

    @property
    def recordings(self) -> RecordingLimits:
        """Limits of one recording."""
        return RecordingLimits(self.max_seconds, self.max_megabytes)


class Result(FileResponse):
    """A response that sends a file within a time limit and then releases it.

    Args:
        path: The file.
        kind: Its media type.
        name: File name proposed to the client.
        seconds: Time limit for sending it.
        headers: Further headers.
        release: Called when the file was sent or the client has left.
    """

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
        """Send the file.

        Args:
            scope: The ASGI scope.
            receive: Gives the messages of the request.
            send: Takes the messages of the answer.
        """
        try:
            async with asyncio.timeout(self._seconds):
                await super().__call__(scope, receive, send)
        except TimeoutError:
            log.warning("a client did not take its result within %g s", self._seconds)
        finally:
            self._release()


class ConversionApi:
    """The service's endpoints.

    Args:
        convert: Function that makes a batch of conversions, see `BatchConverter.convert`.
        access: Access control.
        limits: Limits of requests.
        voices: Folder of the learned voices.
        folder: Folder for recordings and results while a request runs.
        about: Further entries of the answer of /health.

    Attributes:
        app: The ASGI application.
        queue: Queue of the conversions.
    """

    def __init__(
        self,
        convert: Converts,
        access: Access,
        limits: ServiceLimits,
        voices: Path,
        folder: Path,
        about: dict[str, str],
    ):
        self.metrics = Metrics()
        self.queue = ConversionQueue(
            convert,
            self.metrics,
            max_requests=limits.max_requests,
            batch_size=limits.batch_size,
            batch_seconds=limits.batch_seconds,
            wait_seconds=limits.wait_seconds,
        )
        self._limits = limits
        self._voices = voices
        self._folder = folder
        self._about = about
        self._checks = ThreadPoolExecutor(1, "check")  # one at a time, to bound the memory
        self.app = self._make_app(access)

    def _make_app(self, access: Access) -> FastAPI:
        app = FastAPIOffline(title="vc_lightning", description=DESCRIPTION, redoc_url=None)
        keyed = APIRouter(dependencies=[Depends(access)])
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
        app.add_middleware(CountAnswers, metrics=self.metrics)
        app.exception_handler(RefusedError)(answer_refusal)
        app.exception_handler(HTTPException)(answer_http_exception)
        return app

    async def convert(self, request: Request) -> Response:
        """Convert `source` to the voice of `target` or to the learned `voice`."""
        limits = self._limits
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.queue.place())
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            form = await read_form(
                request,
                folder,
                max_bytes=int(limits.max_megabytes * 1e6),
                max_targets=limits.max_targets,
                seconds=limits.transfer_seconds,
            )
            loop = asyncio.get_running_loop()
            seconds = await loop.run_in_executor(self._checks, self._check, form)
            job = Job(form.source, form.target, folder / f"result.{form.format}")
            row = await self.queue.convert(job, seconds, request.is_disconnected)
            self.metrics.sound_seconds.inc(self._require_made(row, form))
            return Result(
                job.output,
                FORMATS[form.format],
                f"conversion.{form.format}",
                limits.transfer_seconds,
                _headers(row),
                stack.pop_all().close,
            )

    async def voices(self) -> dict[str, list[str]]:
        """List the names of the learned voices."""
        return {"voices": await asyncio.to_thread(voice_library.names, self._voices)}

    async def health(self) -> JSONResponse:
        """Show whether the service accepts requests, and how many it is serving."""
        state = "stopping" if self.queue.is_stopping else "ready"
        facts = {"state": state, "requests": self.queue.n_requests} | self._about
        return JSONResponse(facts, 503 if self.queue.is_stopping else 200)

    async def read_metrics(self) -> Response:
        """Show the metrics in Prometheus' text format."""
        return Response(self.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    def _check(self, form: ConversionForm) -> float:
        """Check recordings and voice before they enter the queue.

        Returns:
            Duration of the source in seconds.

        Raises:
            RefusedError: A recording or the voice cannot be used.
        """
        try:
            if isinstance(form.target, str):
                voice_library.load(self._voices, form.target)
            seconds = {path: self._limits.recordings.check(path) for path in form.names}
        except InputError as error:
            raise RefusedError(400, self._sentence(str(error), form)) from None
        return seconds[form.source]

    def _require_made(self, row: Row, form: ConversionForm) -> float:
        """Return the duration of a conversion in seconds, or refuse with the error of the row."""
        if row.seconds is None:
            raise RefusedError(400, self._sentence(row.error, form))
        return row.seconds

    def _sentence(self, error: str, form: ConversionForm) -> str:
        """Replace paths in an error by the fields of the form."""
        return without_folders(error, [*form.names, self._voices])


def _headers(row: Row) -> dict[str, str]:
    """Format the measurements of a conversion as headers."""
    values = {
        "Similarity-Before": row.before,
        "Similarity-To-Target": row.to_target,
        "Similarity-To-Source": row.to_source,
        "Real-Time-Factor": row.real_time_factor,
    }
    return {f"X-{name}": f"{value:.3f}" for name, value in values.items() if value is not None}
