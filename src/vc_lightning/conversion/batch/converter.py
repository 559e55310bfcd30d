"""Convert many recordings: analyze each voice once, and run the vocoder on several at a time."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vc_lightning.audio.files import io as audio
from vc_lightning.common.errors import InputError
from vc_lightning.common.progress import Progress, no_progress, part_of
from vc_lightning.conversion import provenance
from vc_lightning.conversion.batch import advice
from vc_lightning.conversion.batch.jobs import Job
from vc_lightning.conversion.batch.results_table import Row, row_of
from vc_lightning.conversion.converter import ANALYSIS_SHARE, VoiceConverter
from vc_lightning.conversion.measuring import (
    ConversionRequest,
    MeasuredConversion,
    convert_and_measure,
)
from vc_lightning.conversion.recording import Recording, prefix_errors
from vc_lightning.conversion.voices.shelf import VoiceShelf
from vc_lightning.conversion.voices.voice import Target, Voice, VoiceSample

log = logging.getLogger(__name__)

Filter = Callable[[np.ndarray, int], np.ndarray]  # of wav (n,) and its sample rate in Hz


@dataclass(frozen=True)
class PreparedTarget:
    """A target voice and, of several recordings, the last one, which is left out of the voice.

    Attributes:
        voice: The voice.
        left_out: The recording that is left out, so that conversions can be compared with it.
        reference: Its embedding (dim_emb,).
    """

    voice: Voice
    left_out: Path | None = None
    reference: np.ndarray | None = None


class BatchConverter:
    """Converts the recordings of jobs and writes their files.

    Args:
        converter: Makes the conversions.
        folder: Folder of the learned voices.
        seed: Seed of the vocoder.
        before: Filter for every recording after reading.
        after: Filter for every conversion before writing.
    """

    def __init__(
        self,
        converter: VoiceConverter,
        folder: Path,
        seed: int,
        before: Filter,
        after: Filter,
    ):
        self.converter = converter
        self.shelf = VoiceShelf(folder)
        self.seed = seed
        self.before = before
        self.after = after
        self._targets: dict[Target, PreparedTarget | InputError] = {}
        self._last: tuple[Path, Recording] | None = None
        self._advice: set[str] = set()

    def convert(self, jobs: Sequence[Job], progress: Progress = no_progress) -> list[Row]:
        """Convert several jobs at a time; an unusable recording fails only its own jobs.

        Args:
            jobs: The jobs.
            progress: Called with the share of the work that is done, 0 to 1.

        Returns:
            One row per job, with its error if there is one.
        """
        rows: dict[Job, Row] = {}
        ready = []
        for index, job in enumerate(jobs):
            try:
                target = self.target(job.target)
                began = time.perf_counter()
                first, last = (ANALYSIS_SHARE * n / len(jobs) for n in (index, index + 1))
                source = self._analyze(job.source, part_of(progress, first, last))
            except InputError as error:
                rows[job] = replace(row_of(job), error=str(error))
            else:
                request = ConversionRequest(source, target.voice, target.reference)
                ready.append((job, request, time.perf_counter() - began))
        if ready:
            requests = [request for _, request, _ in ready]
            rest = part_of(progress, ANALYSIS_SHARE, 1)
            measured = convert_and_measure(self.converter, requests, self.seed, rest)
            for (job, _, analysis_seconds), result in zip(ready, measured, strict=True):
                rows[job] = self._write(job, result, analysis_seconds)
        progress(1.0)
        return [rows[job] for job in jobs]

    def target(self, target: Target) -> PreparedTarget:
        """Return the voice of a target, which is analyzed only once.

        Raises:
            InputError: There is no such voice, or none of its recordings is usable.
        """
        if target not in self._targets:
            try:
                self._targets[target] = self._prepared(target)
            except InputError as error:
                self._targets[target] = error
        known = self._targets[target]
        if isinstance(known, InputError):
            raise known
        return known

    def _prepared(self, target: Target) -> PreparedTarget:
        if isinstance(target, str):
            return PreparedTarget(self.shelf.voice(target, self.converter))
        *own, (path, last) = self.voice_samples(target)
        if not own:
            return PreparedTarget(self.converter.voice_from([last]))
        voice = self.converter.voice_from(sample for _, sample in own)
        return PreparedTarget(voice, path, last.embedding)

    def voice_samples(self, paths: Sequence[Path]) -> list[tuple[Path, VoiceSample]]:
        """Analyze a voice's recordings; unusable ones are logged and left out.

        Raises:
            InputError: None of them is usable.
        """
        usable, reasons = [], []
        for path in paths:
            try:
                wav = self._load(path)
                with prefix_errors(path):
                    sample = self.converter.sample(wav, path)
                usable.append((path, sample))
                rate = self.converter.sample_rate
                self._advise(advice.of_recording(path, wav, rate, sample.speech))
                self._advise(advice.of_speakers(path, wav, self.converter))
            except InputError as error:
                reasons.append(error)
        if not usable:
            raise reasons[0]
        for reason in reasons:
            log.warning("left out of the voice: %s", reason)
        self._advise(advice.of_target(usable))
        return usable

    def _analyze(self, path: Path, progress: Progress) -> Recording:
        """Filter and analyze a source; the last one is kept for its other targets."""
        if self._last is None or self._last[0] != path:
            wav = self._load(path)
            with prefix_errors(path):
                analyzed = self.converter.analyze(wav, progress, path, embeds=True)
            self._last = path, analyzed
            rate, speech = self.converter.sample_rate, analyzed.level.speech
            self._advise(advice.of_recording(path, wav, rate, speech))
        return self._last[1]

    def _advise(self, sentences: Iterable[str]) -> None:
        """Warn once of each recording or voice that will convert badly."""
        for sentence in sentences:
            if sentence not in self._advice:
                self._advice.add(sentence)
                log.warning("%s", sentence)

    def _load(self, path: Path) -> np.ndarray:
        """Load and filter a recording."""
        wav = self.converter.load(path)
        with prefix_errors(path):
            return self.before(wav, self.converter.sample_rate)

    def _write(self, job: Job, result: MeasuredConversion, analysis_seconds: float) -> Row:
        """Write a conversion and describe it as a row of the table."""
        rate = self.converter.sample_rate
        duration = len(result.wav) / rate
        row = replace(
            row_of(job),
            seconds=duration,
            before=result.before,
            to_target=result.to_target,
            to_source=result.to_source,
            real_time_factor=(analysis_seconds + result.seconds) / duration,
        )
        strings = provenance.strings(self.converter.note())
        try:
            audio.save(job.output, self.after(result.wav, rate), rate, strings)
        except (InputError, OSError) as error:
            return replace(row, error=f"{job.output}: {error}")
        if result.unmeasured:
            log.warning("%s: no voice similarity: %s", job.output, result.unmeasured)
        return row
