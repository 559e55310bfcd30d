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
from typing import TypeVar

from vc_lightning.common.progress import Progress
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.measuring import MeasuredConversion
from vc_lightning.conversion.recording import Recording
from vc_lightning.conversion.voices.voice import Voice
from vc_lightning.service.engine.converters import Settings
from vc_lightning.service.engine.priority import in_new_thread
from vc_lightning.service.limits import ServiceLimits
from vc_lightning.service.metrics import Metrics
from vc_lightning.service.refusal import STOPPING, RefusedError, without_message

log = logging.getLogger(__name__)

Result = TypeVar("Result")

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


@dataclass(eq=False)
class Waiting:
    """A conversion in the queue.

    Attributes:
        prepared: What is to be converted.
        result: Its result.
        share: Share of it that is done; None while it waits.
    """

    prepared: PreparedConversion
    result: asyncio.Future[MeasuredConversion]
    share: float | None = None


class ConversionQueue:
    """Queue whose conversions run in batches, one batch at a time.

    All methods must be called in the thread of the event loop.

    Args:
        convert: Function that makes a batch of conversions.
        metrics: Metrics to update.
        limits: Limits of requests.

    Attributes:
        n_requests: Requests that are being served.
        is_stopping: Whether new requests are refused.
        is_abandoned: Whether all requests are refused.
    """

    def __init__(self, convert: Converts, metrics: Metrics, limits: ServiceLimits):
        self._convert = convert
        self._metrics = metrics
        self._limits = limits
        self._line = ThreadPoolExecutor(1, "conversions")
        self._waiting: deque[Waiting] = deque()
        self._batch: list[Waiting] = []
        self._worker: asyncio.Task | None = None
        self._seconds_each = 1.0  # running mean of the time of a conversion
        self.n_requests = 0
        self.is_stopping = self.is_abandoned = False

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Reserve a place for a request while the block runs.

        Raises:
            RefusedError: All places are taken (429), or the service is stopping (503).
        """
        if self.is_stopping:
            raise self.stopping_error()
        if self.n_requests >= self._limits.max_requests:
            sentence = f"{self.n_requests} requests are being served already; try again later"
            raise RefusedError(429, sentence, self._retry_seconds(), unread=True)
        self.n_requests += 1
        self._metrics.requests.set(self.n_requests)
        try:
            yield
        finally:
            self.n_requests -= 1
            self._metrics.requests.set(self.n_requests)

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
        return await self.wait_for(waiting.result, prepared.began, lambda: watch(waiting.share))

    async def wait_for(
        self,
        made: asyncio.Future[Result],
        began: float,
        has_left: Callable[[], Awaitable[bool]] | None,
    ) -> Result:
        """Wait for a result of a request, which is dropped if nobody waits for it any more.

        Args:
            made: The result.
            began: Time (`time.monotonic`) when the request began to wait.
            has_left: Returns whether the client has left; None: it does not leave.

        Raises:
            RefusedError: It took too long, the client has left, or the service stops.
        """
        limit = self._limits.wait_seconds
        try:
            while not made.done():
                await asyncio.wait([made], timeout=LOOK_SECONDS)
                if not made.done() and self.is_abandoned:
                    raise self.stopping_error()
                if not made.done() and has_left is not None and await has_left():
                    raise RefusedError(400, "the client has left")
                if not made.done() and time.monotonic() - began > limit:
                    sentence = f"not converted within {limit:g} s; try again later"
                    raise RefusedError(503, sentence, self._retry_seconds())
        finally:
            made.cancel()  # if it has not begun
        return made.result()

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
        while self._waiting and len(batch) < self._limits.batch_size:
            waiting = self._waiting[0]
            if not waiting.result.done():
                works = [each.prepared for each in [*batch, waiting]]
                if len({work.settings for work in works}) > 1:
                    break
                longest = max(work.source.seconds for work in works)
                if batch and longest * len(works) > self._limits.batch_seconds:
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
        seconds = self._seconds_each * self.n_requests / 2
        return max(1, min(MAX_RETRY_SECONDS, math.ceil(seconds)))
