"""The bounded queue of conversions: first come, first served, in batches."""

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from vc_lightning.common.progress import Progress
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.measuring import MeasuredConversion
from vc_lightning.conversion.recording import Recording
from vc_lightning.conversion.voices.voice import Voice
from vc_lightning.service.engine.converters import Settings
from vc_lightning.service.engine.priority import in_new_thread
from vc_lightning.service.metrics import Metrics
from vc_lightning.service.refusal import STOPPING, RefusedError, without_message

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25  # between two checks of a client's connection
MAX_RETRY_SECONDS = 60


@dataclass(frozen=True)
class PreparedConversion:
    """A conversion that is ready to be made.

    Attributes:
        converter: Makes it.
        settings: Its settings; only conversions with equal ones share a batch.
        source: The source.
        voice: The target voice.
        reference: The first recording of the voice, if it is kept.
        preparation_seconds: Computing time of the analysis.
        began: Time (`time.monotonic`) when the request began to wait.
    """

    converter: VoiceConverter
    settings: Settings
    source: Recording
    voice: Voice
    reference: Recording | None
    preparation_seconds: float
    began: float


Converts = Callable[[Sequence[PreparedConversion], Progress], Sequence[MeasuredConversion]]
# Takes the share of a conversion that is done, or None while it waits; returns whether the client
# has left. Called a few times a second.
Watch = Callable[[float | None], Awaitable[bool]]


class AbandonedError(Exception):
    """Ends a batch whose clients have all left."""


class Waiting:
    """A conversion in the queue.

    Args:
        prepared: What is to be converted.
        result: Its result.

    Attributes:
        share: Share of it that is done; None while it waits.
    """

    def __init__(self, prepared: PreparedConversion, result: asyncio.Future[MeasuredConversion]):
        self.prepared = prepared
        self.result = result
        self.share: float | None = None


class ConversionQueue:
    """Queue whose conversions run in batches, one batch at a time.

    All methods must be called in the thread of the event loop.

    Args:
        convert: Function that makes a batch of conversions.
        metrics: Metrics to update.
        max_requests: Most requests that upload, wait or are converted at the same time.
        batch_size: Most conversions in a batch.
        batch_seconds: Largest product of a batch's size and its longest source, in seconds;
            a batch of one is not limited.
        wait_seconds: Longest time from a request's analysis to the end of its conversion.

    Attributes:
        is_stopping: Whether new requests are refused.
        is_abandoned: Whether all requests are refused.
    """

    def __init__(
        self,
        convert: Converts,
        metrics: Metrics,
        *,
        max_requests: int,
        batch_size: int,
        batch_seconds: float,
        wait_seconds: float,
    ):
        self._convert = convert
        self._metrics = metrics
        self._max_requests = max_requests
        self._batch_size = batch_size
        self._batch_seconds = batch_seconds
        self._wait_seconds = wait_seconds
        self._line = ThreadPoolExecutor(1, "conversions")
        self._waiting: deque[Waiting] = deque()
        self._batch: list[Waiting] = []
        self._worker: asyncio.Task | None = None
        self._seconds_each = 1.0  # running mean of the time of a conversion
        self._n_requests = 0
        self.is_stopping = self.is_abandoned = False

    @property
    def n_requests(self) -> int:
        """Requests that are being served."""
        return self._n_requests

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Reserve a place for a request while the block runs.

        Raises:
            RefusedError: All places are taken (429), or the service is stopping (503).
        """
        if self.is_stopping:
            raise self.stopping_error()
        if self._n_requests >= self._max_requests:
            sentence = f"{self._n_requests} requests are being served already; try again later"
            raise RefusedError(429, sentence, self._retry_seconds(), unread=True)
        self._n_requests += 1
        self._metrics.requests.set(self._n_requests)
        try:
            yield
        finally:
            self._n_requests -= 1
            self._metrics.requests.set(self._n_requests)

    async def convert(self, prepared: PreparedConversion, watch: Watch) -> MeasuredConversion:
        """Wait for a conversion's turn and make it.

        Args:
            prepared: The conversion.
            watch: Told the progress; returns whether the client has left, then it is dropped.

        Raises:
            RefusedError: It took too long, the service stops, or the conversion failed.
        """
        if self.is_abandoned:
            raise self.stopping_error()
        loop = asyncio.get_running_loop()
        waiting = Waiting(prepared, loop.create_future())
        self._waiting.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        try:
            while not waiting.result.done():
                await asyncio.wait([waiting.result], timeout=LOOK_SECONDS)
                if not waiting.result.done() and await watch(waiting.share):
                    raise RefusedError(400, "the client has left")
                if not waiting.result.done():
                    self.require_in_time(prepared.began)
        finally:
            waiting.result.cancel()
        return waiting.result.result()

    def require_in_time(self, began: float) -> None:
        """Raise RefusedError (503) if a request that began then has waited too long."""
        if time.monotonic() - began > self._wait_seconds:
            raise RefusedError(
                503,
                f"not converted within {self._wait_seconds:g} s; try again later",
                self._retry_seconds(),
            )

    def stop(self) -> None:
        """Refuse new requests from now on; finish those that are being served."""
        self.is_stopping = True

    def abandon(self) -> None:
        """Also refuse requests that wait or are being converted; the running batch ends early."""
        self.is_abandoned = True
        for waiting in [*self._batch, *self._waiting]:
            if not waiting.result.done():
                waiting.result.set_exception(self.stopping_error())

    def stopping_error(self) -> RefusedError:
        """Make the refusal of a request while the service stops."""
        return RefusedError(503, STOPPING, self._retry_seconds(), unread=True)

    async def _work(self) -> None:
        """Convert batch after batch until nothing is waiting."""
        loop = asyncio.get_running_loop()
        while batch := self._next_batch():
            self._batch = batch
            started = loop.time()
            work = [waiting.prepared for waiting in batch]
            made = loop.run_in_executor(
                self._line, in_new_thread, self._convert, work, self._progress(batch)
            )
            await asyncio.wait([made])
            self._answer(batch, made)
            self._batch = []
            self._count(batch, loop.time() - started)

    def _next_batch(self) -> list[Waiting]:
        """Take the first conversion and the following ones that fit into its batch."""
        batch: list[Waiting] = []
        while self._waiting and len(batch) < self._batch_size:
            waiting = self._waiting[0]
            if not waiting.result.done():
                works = [each.prepared for each in [*batch, waiting]]
                if len({work.settings for work in works}) > 1:
                    break
                longest = max(work.source.seconds for work in works)
                if batch and longest * len(works) > self._batch_seconds:
                    break
                batch.append(waiting)
            self._waiting.popleft()
        return batch

    @staticmethod
    def _progress(batch: Sequence[Waiting]) -> Progress:
        """Make a progress function; it ends the batch once no client waits for it."""

        def note(share: float) -> None:
            if all(waiting.result.done() for waiting in batch):
                raise AbandonedError
            for waiting in batch:
                waiting.share = share

        return note

    @staticmethod
    def _answer(
        batch: Sequence[Waiting], made: asyncio.Future[Sequence[MeasuredConversion]]
    ) -> None:
        error = made.exception()
        if error is not None and not isinstance(error, AbandonedError):
            log.error("a conversion failed: %s", without_message(error))
            log.debug("its traceback", exc_info=error)
        for index, waiting in enumerate(batch):
            if waiting.result.done():
                continue
            if error is None:
                waiting.result.set_result(made.result()[index])
            else:
                sentence = f"the conversion failed ({type(error).__name__}); see the server's log"
                waiting.result.set_exception(RefusedError(500, sentence))

    def _count(self, batch: Sequence[Waiting], seconds: float) -> None:
        self._metrics.batch_sizes.observe(len(batch))
        self._metrics.conversion_seconds.observe(seconds)
        self._seconds_each += 0.2 * (seconds / len(batch) - self._seconds_each)

    def _retry_seconds(self) -> int:
        """Estimate the seconds until about half of the present requests are done."""
        seconds = self._seconds_each * self._n_requests / 2
        return max(1, min(MAX_RETRY_SECONDS, math.ceil(seconds)))
