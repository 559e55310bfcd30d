"""What HTTP, the page and live speech share: one model, one queue, one set of limits."""

import asyncio
import itertools
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from vc_lightning.common.progress import Progress
from vc_lightning.conversion.batch import advice
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.measuring import (
    ConversionRequest,
    MeasuredConversion,
    convert_and_measure,
)
from vc_lightning.conversion.voices.shelf import VoiceShelf
from vc_lightning.conversion.voices.voice import Target, Voice
from vc_lightning.service.engine.converters import Converters, Settings
from vc_lightning.service.engine.priority import give_way, in_new_thread
from vc_lightning.service.engine.queue import ConversionQueue, PreparedConversion, Watch
from vc_lightning.service.engine.recordings import Recordings, hidden_folders
from vc_lightning.service.limits import ServiceLimits
from vc_lightning.service.metrics import Metrics

Result = TypeVar("Result")


class ConversionService:
    """Prepares and makes conversions, each step in a thread of its own.

    Args:
        converters: The converters that clients may choose.
        voices: Folder of the learned voices.
        limits: Limits of requests.

    Attributes:
        metrics: Counters of the whole server.
        queue: Queue of the conversions.
        recordings: Reads and analyzes recordings, and keeps those of the page.
        n_streams: Live streams that compute, each in a thread.
    """

    def __init__(self, converters: Converters, voices: Path, limits: ServiceLimits):
        self.converters = converters
        self.voices = voices
        self.limits = limits
        self.metrics = Metrics()
        self.recordings = Recordings(limits)
        self.n_streams = 0
        self._n_threads = torch.get_num_threads()
        self.queue = ConversionQueue(self.convert_batch, self.metrics, limits)
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
        asked = time.monotonic()

        def prepared() -> PreparedConversion:
            began = time.perf_counter()
            converter = self._converter(settings)
            voice = self.find_voice(target, converter, keep)
            reference = None
            if keep and not isinstance(target, str):
                reference = self.recordings.kept(target[0], converter)
            analyze = self.recordings.kept if keep else self.recordings.analyzed
            analyzed = analyze(source, converter)
            seconds = time.perf_counter() - began
            return PreparedConversion(
                converter, settings, analyzed, voice, reference, seconds, asked
            )

        return await self._in_thread(prepared, watch)

    async def check(self, recording: Path) -> list[str]:
        """Decode, analyze and keep a recording; see `prepare`.

        Returns:
            Advice, if it will convert badly; see `advice.of_recording`.
        """

        def checked() -> list[str]:
            converter = self._converter(self.converters.default)
            kept, rate = self.recordings.kept(recording, converter), converter.sample_rate
            return advice.of_recording(
                recording.name, kept.wav, rate, kept.level.speech, can_clean=False
            )

        return await self._in_thread(checked)

    async def check_voice(self, recordings: Sequence[Path]) -> list[str]:
        """Advise on the recordings of a voice that were checked; see `advice.of_target`."""

        def checked() -> list[str]:
            converter = self._converter(self.converters.default)
            kept = [(path.name, self.recordings.kept(path, converter)) for path in recordings]
            mixed = (advice.of_speakers(name, one.wav, converter) for name, one in kept)
            return [*itertools.chain(*mixed), *advice.of_target(kept)]

        return await self._in_thread(checked)

    async def voice(self, target: Target, settings: Settings) -> tuple[VoiceConverter, Voice]:
        """Prepare a voice for live speech; see `prepare`."""

        def found() -> tuple[VoiceConverter, Voice]:
            converter = self._converter(settings)
            return converter, self.find_voice(target, converter)

        return await self._in_thread(found)

    async def speaker(self, recording: Path, converter: VoiceConverter) -> tuple[Voice, np.ndarray]:
        """Prepare the voice and the speech (n,) of a person who will speak live; see `prepare`."""

        def found() -> tuple[Voice, np.ndarray]:
            earlier = converter.end_of_speech(self.recordings.kept(recording, converter))
            return self.find_voice((recording,), converter), earlier

        return await self._in_thread(found)

    def find_voice(self, target: Target, converter: VoiceConverter, keep: bool = True) -> Voice:
        """Return the voice of recordings, or a learned one.

        Args:
            target: Recordings of one speaker, or the name of a learned voice.
            converter: Converter that will use it.
            keep: Whether the analyzed recordings are kept for another conversion.

        Raises:
            InputError: There is no such voice, it belongs to another speaker encoder, or a
                recording cannot be used. The message names no folder.
        """
        analyze = self.recordings.kept if keep else self.recordings.sample
        with hidden_folders([self.voices]):
            shelf = VoiceShelf(self.voices)
            return shelf.find(target, converter, lambda path: analyze(path, converter))

    async def convert(self, prepared: PreparedConversion, watch: Watch) -> MeasuredConversion:
        """Convert when the queue comes to it; see `ConversionQueue.convert`."""
        result = await self.queue.convert(prepared, watch)
        self.metrics.sound_seconds.inc(prepared.source.seconds)
        return replace(result, seconds=prepared.preparation_seconds + result.seconds)

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

    def _converter(self, settings: Settings) -> VoiceConverter:
        return self._beside_streams(self.converters.get(settings))

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
        self, function: Callable[[], Result], watch: Watch | None = None
    ) -> Result:
        """Call a function when its turn comes, unless nobody waits for its result any more."""
        if self.queue.is_abandoned:
            raise self.queue.stopping_error()
        loop = asyncio.get_running_loop()
        made = loop.run_in_executor(self._preparing, in_new_thread, function)
        made.add_done_callback(lambda made: made.cancelled() or made.exception())  # known
        has_left = None if watch is None else lambda: watch(None)
        return await self.queue.wait_for(made, time.monotonic(), has_left)
