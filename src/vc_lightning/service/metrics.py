"""The service's metrics for Prometheus."""

import asyncio
import time

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vc_lightning.service.refusal import STOPPING, as_json

ROUTES = ("/", "/convert", "/voices", "/health", "/metrics", "/gradio_api/upload")
SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
BATCH_SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answers = Counter("vc_answers", "Answers.", ["path", "status"], registry=self.registry)
        self.request_seconds = Histogram(
            "vc_request_seconds",
            "From a request's headers to the end of its answer.",
            ["path"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.requests = Gauge(
            "vc_requests", "Requests that upload, wait or are converted.", registry=self.registry
        )
        self.batch_sizes = Histogram(
            "vc_batch_size",
            "Conversions in a batch.",
            buckets=BATCH_SIZES,
            registry=self.registry,
        )
        self.conversion_seconds = Histogram(
            "vc_conversion_seconds", "Time of a batch.", buckets=SECONDS, registry=self.registry
        )
        self.sound_seconds = Counter(
            "vc_sound_seconds", "Duration of the conversions.", registry=self.registry
        )
        ProcessCollector(registry=self.registry)  # memory and CPU time, on Linux

    def text(self) -> bytes:
        """Format the metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class CountAnswers:
    """ASGI middleware that counts and times answers; if the server ends before one, it is a 503."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # Unknown paths share one label: otherwise any client could add time series.
        path = scope["path"] if scope["path"] in ROUTES else "other"
        started = time.perf_counter()
        is_answered = False

        async def counting(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                is_answered = True
                self.metrics.answers.labels(path, str(message["status"])).inc()
            await send(message)

        try:
            await self.app(scope, receive, counting)
        except asyncio.CancelledError:
            if is_answered:
                raise
            await as_json(503, STOPPING, {})(scope, receive, counting)
        finally:
            self.metrics.request_seconds.labels(path).observe(time.perf_counter() - started)
