"""What HTTP, the page and live speech share: one model, one queue, one set of limits."""

import asyncio
import itertools
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch

from vc_lightning.common.errors import require_at_least, require_within
from vc_lightning.common.progress import Progress
from vc_lightning.conversion.batch import advice
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.measuring import (
    ConversionRequest,
    MeasuredConversion,
    convert_and_measure,
)
from vc_lightning.conversion.recording import Recording
from vc_lightning.conversion.voices.shelf import VoiceShelf
from vc_lightning.conversion.voices.voice import Target, Voice, VoiceSample
from vc_lightning.service.engine.converters import Converters, Settings
from vc_lightning.service.engine.priority import give_way, in_new_thread
from vc_lightning.service.engine.queue import (
    LOOK_SECONDS,
    ConversionQueue,
    PreparedConversion,
    Watch,
)
from vc_lightning.service.engine.recordings import KeptRecordings, RecordingLimits, hidden_folders
from vc_lightning.service.metrics import Metrics
from vc_lightning.service.refusal import RefusedError

Result = TypeVar("Result")
Analyze = Callable[[Path, VoiceConverter], VoiceSample | Recording]


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


class ConversionService:
    """Prepares and makes conversions, each step in a thread of its own.

    Args:
        converters: The converters that clients may choose.
        voices: Folder of the learned voices.
        limits: Limits of requests.

    Attributes:
        metrics: Counters of the whole server.
        queue: Queue of the conversions.
        kept: Analyzed recordings of the page.
        n_streams: Live streams that compute, each in a thread.
    """

    def __init__(self, converters: Converters, voices: Path, limits: ServiceLimits):
        self.converters = converters
        self.voices = voices
        self.limits = limits
        self.metrics = Metrics()
        self.kept = KeptRecordings(limits.recordings)
        self.n_streams = 0
        self._n_threads = torch.get_num_threads()
        self.queue = ConversionQueue(
            self.convert_batch,
            self.metrics,
            max_requests=limits.max_requests,
            batch_size=limits.batch_size,
            batch_seconds=limits.batch_seconds,
            wait_seconds=limits.wait_seconds,
        )
        # One at a time, which bounds the memory.
        self._preparing = ThreadPoolExecutor(1, "preparations")

    async def prepare(
        self,
        source: Path,
        target: Target,
        settings: Settings,
        keep: bool = False,
        watch: Watch | None = None,
    ) -> PreparedConversion:
        """Decode and analyze the recordings of a conversion.

        Args:
            source: The source recording.
            target: Recordings of one speaker, or the name of a learned voice.
            settings: Settings of the conversion.
            keep: Whether the analyzed recordings are kept for another conversion.
            watch: See `ConversionQueue.convert`; None: the client does not leave.

        Raises:
            InputError: Something is not offered or cannot be used. The message names no folder.
            RefusedError: It took too long, the client has left, or the service stops.
        """
        began = time.monotonic()
        arguments = (source, target, settings, keep, began)
        return await self._in_thread(self._prepare, *arguments, watch=watch)

    async def check(self, recording: Path) -> list[str]:
        """Decode, analyze and keep a recording; see `prepare`.

        Returns:
            Advice, if it will convert badly; see `advice.of_recording`.
        """
        return await self._in_thread(self._check, recording)

    async def check_voice(self, recordings: Sequence[Path]) -> list[str]:
        """Advise on the recordings of a voice that were checked; see `advice.of_target`."""
        return await self._in_thread(self._check_voice, recordings)

    async def voice(self, target: Target, settings: Settings) -> tuple[VoiceConverter, Voice]:
        """Prepare a voice for live speech; see `prepare`."""
        return await self._in_thread(self._prepare_voice, target, settings)

    def find_voice(
        self, target: Target, converter: VoiceConverter, analyze: Analyze | None = None
    ) -> Voice:
        """Return the voice of recordings, or a learned one.

        Args:
            target: Recordings of one speaker, or the name of a learned voice.
            converter: Converter that will use it.
            analyze: Analyzes a recording; None: it is also kept, see `kept`.

        Raises:
            InputError: There is no such voice, it belongs to another speaker encoder, or a
                recording cannot be used. The message names no folder.
        """
        analyze = analyze or self.kept.get
        with hidden_folders([self.voices]):
            shelf = VoiceShelf(self.voices)
            return shelf.find(target, converter, lambda path: analyze(path, converter))

    async def convert(self, prepared: PreparedConversion, watch: Watch) -> MeasuredConversion:
        """Convert when the queue comes to it; see `ConversionQueue.convert`."""
        result = await self.queue.convert(prepared, watch)
        self.metrics.sound_seconds.inc(prepared.source.seconds)
        seconds = prepared.preparation_seconds + result.seconds
        return replace(result, seconds=seconds)

    def convert_batch(
        self, batch: Sequence[PreparedConversion], progress: Progress
    ) -> list[MeasuredConversion]:
        """Convert and measure recordings that have equal settings.

        Args:
            batch: The conversions.
            progress: Called with the share of the work that is done, up to 1.
        """
        requests = [ConversionRequest(each.source, each.voice) for each in batch]
        converter, seed = self._beside_streams(batch[0].converter), batch[0].settings.seed

        def note(share: float) -> None:
            if self.n_streams:  # it began meanwhile
                give_way()
            progress(share)

        return convert_and_measure(converter, requests, seed, note)

    def _prepare(
        self, source: Path, target: Target, settings: Settings, keep: bool, asked: float
    ) -> PreparedConversion:
        began = time.perf_counter()
        limits = self.limits.recordings
        converter = self._beside_streams(self.converters.get(settings))
        voice = self.find_voice(target, converter, None if keep else limits.sample)
        reference = None
        if keep and not isinstance(target, str):
            reference = self.kept.get(target[0], converter)
        analyzed = (self.kept.get if keep else limits.analyzed)(source, converter)
        return PreparedConversion(
            converter,
            settings,
            analyzed,
            voice,
            reference,
            time.perf_counter() - began,
            asked,
        )

    def _check(self, recording: Path) -> list[str]:
        converter = self._beside_streams(self.converters.get(self.converters.default))
        kept = self.kept.get(recording, converter)
        return advice.of_recording(
            recording.name, kept.wav, converter.sample_rate, kept.level.speech, can_clean=False
        )

    def _check_voice(self, recordings: Sequence[Path]) -> list[str]:
        converter = self._beside_streams(self.converters.get(self.converters.default))
        kept = [(recording.name, self.kept.get(recording, converter)) for recording in recordings]
        mixed = (advice.of_speakers(name, one.wav, converter) for name, one in kept)
        return [*itertools.chain(*mixed), *advice.of_target(kept)]

    def _prepare_voice(self, target: Target, settings: Settings) -> tuple[VoiceConverter, Voice]:
        converter = self._beside_streams(self.converters.get(settings))
        return converter, self.find_voice(target, converter)

    def _beside_streams(self, converter: VoiceConverter) -> VoiceConverter:
        """Let the calling thread and the converter leave time and cores to live streams."""
        if self.n_streams:
            give_way()
        if "OMP_NUM_THREADS" not in os.environ:
            n_threads = max(1, self._n_threads - self.n_streams)
            converter.networks.threads.most = n_threads
            torch.set_num_threads(n_threads)
        return converter

    def abandon(self) -> None:
        """Refuse also the requests that are being served, so that the program can end."""
        self.queue.abandon()
        self._preparing.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(
        self, function: Callable[..., Result], *arguments: object, watch: Watch | None = None
    ) -> Result:
        """Call a function when its turn comes, unless nobody waits for its result any more."""
        loop = asyncio.get_running_loop()
        began = time.monotonic()
        if self.queue.is_abandoned:
            raise self.queue.stopping_error()
        made = loop.run_in_executor(self._preparing, in_new_thread, function, *arguments)
        made.add_done_callback(lambda made: made.cancelled() or made.exception())  # known
        try:
            while not made.done():
                await asyncio.wait([made], timeout=LOOK_SECONDS)
                if made.done():
                    break
                if self.queue.is_abandoned:
                    raise self.queue.stopping_error()
                self.queue.require_in_time(began)
                if watch is not None and await watch(None):
                    raise RefusedError(400, "the client has left")
        finally:
            made.cancel()  # if it has not begun
        return made.result()
