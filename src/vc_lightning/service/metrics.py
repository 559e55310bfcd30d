"""What the service counts, for Prometheus."""

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

ROUTES = ("/convert", "/voices", "/health", "/metrics")
SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
BATCH_SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counters and histograms of one server.

    Attributes:
        answers: Answers by address and status.
        request_seconds: Time from a request's headers to the end of its answer, by address.
        requests: Requests that upload, wait or are converted now.
        batch_sizes: Conversions that were made side by side.
        conversion_seconds: Time of one batch.
        sound_seconds: Duration of the sound that was made.
    """

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
            "Conversions made side by side.",
            buckets=BATCH_SIZES,
            registry=self.registry,
        )
        self.conversion_seconds = Histogram(
            "vc_conversion_seconds", "Time of a batch.", buckets=SECONDS, registry=self.registry
        )
        self.sound_seconds = Counter(
            "vc_sound_seconds", "Duration of the conversions.", registry=self.registry
        )
        ProcessCollector(registry=self.registry)  # memory and CPU time, where Linux tells them

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)


class CountAnswers:
    """ASGI middleware that counts and times answers.

    Args:
        app: What answers.
        metrics: Where to count.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on and counts its answer."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in ROUTES else "other"  # else anybody makes series
        started = time.perf_counter()

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.answers.labels(path, str(message["status"])).inc()
            await send(message)

        try:
            await self.app(scope, receive, counting)
        finally:
            self.metrics.request_seconds.labels(path).observe(time.perf_counter() - started)
