"""The page's conversions: recordings with measurements, one at a time, and live streams."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vc_lightning.common.errors import InputError, require_one_of, require_seed, require_within
from vc_lightning.conversion import voice_library as voices
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.limits import RecordingLimits, hide_folders
from vc_lightning.conversion.measuring import (
    ConversionRequest,
    MeasuredConversion,
    convert_and_measure,
)
from vc_lightning.conversion.provenance import Provenance
from vc_lightning.conversion.recording import Recording
from vc_lightning.conversion.streaming import VoiceStream
from vc_lightning.conversion.voices.voice import Voice

KEPT_CONVERTERS = 3  # in memory; the shipped one takes about 60 MB

# Shares of the progress at which each step begins.
WAITING, LOADING, ANALYZING, CONVERTING, MEASURING = 0.01, 0.05, 0.15, 0.3, 0.9

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Settings:
    """Settings of a conversion.

    Attributes:
        checkpoint: Name of an offered checkpoint.
        vocoder: Name of an offered vocoder.
        guidance: Strength of the extrapolation away from the source's voice.
        seed: Seed of the vocoder.
    """

    checkpoint: str
    vocoder: str
    guidance: float
    seed: int


@dataclass(frozen=True)
class VoiceRequest:
    """The target voice and the settings of a conversion.

    Attributes:
        targets: Recordings of the voice.
        learned: Name of a learned voice, which replaces the recordings; "" for none.
        settings: Settings of the conversion.
    """

    targets: Sequence[Path]
    learned: str
    settings: Settings


@dataclass(frozen=True)
class ConversionResult:
    """A measured conversion.

    Attributes:
        note: Provenance for the metadata of the file.
        wav: Samples, float32 (n,).
        sample_rate: In Hz.
        name: File name, such as source_to_target.wav.
        seconds: Computing time without loading and measuring.
        mels: Source, target (None for a learned voice) and result, each (n_mels, T).
        to_target: GE2E cosine similarity to the target before and after; None where the result
            has too little speech to be measured.
        to_source: The same to the source.
    """

    note: Provenance
    wav: np.ndarray
    sample_rate: int
    name: str
    seconds: float
    mels: tuple[np.ndarray, np.ndarray | None, np.ndarray]
    to_target: tuple[float, float | None]
    to_source: tuple[float, float | None]


class ConversionService:
    """Converts recordings and live sound with several converters, which are loaded once and kept.

    Only one conversion or live stream computes at a time. Conversions wait while a live stream
    runs, because live sound cannot wait.

    Args:
        checkpoints: Files by the names that are offered; the first one is the default.
        vocoders: Names that are offered; the first one is the default.
        load: Function that makes a converter from a checkpoint and the name of a vocoder.
        voices: Folder of learned voices.
        max_seconds: Longest recording, in seconds.
        max_megabytes: Largest recording, in MB.
    """

    def __init__(
        self,
        checkpoints: Mapping[str, Path],
        vocoders: Sequence[str],
        load: Callable[[Path, str], VoiceConverter],
        voices: Path,
        *,
        max_seconds: float,
        max_megabytes: float,
    ):
        self.limits = RecordingLimits(max_seconds, max_megabytes)
        self.checkpoints = dict(checkpoints)
        self.vocoders = list(vocoders)
        self.voices = voices
        self._load = load
        self._converters: dict[tuple[str, str], VoiceConverter] = {}
        self._lock = threading.Lock()  # held while a conversion or a live stream computes
        self._is_quiet = threading.Event()  # set while no live stream runs or waits
        self._is_quiet.set()

    def converter(self, checkpoint: str, vocoder: str) -> VoiceConverter:
        """Return a converter; load it if necessary.

        Args:
            checkpoint: Name of an offered checkpoint.
            vocoder: Name of an offered vocoder.

        Raises:
            InputError: The name is not offered.
        """
        require_one_of(list(self.checkpoints), "page", checkpoint=checkpoint)
        require_one_of(self.vocoders, "page", vocoder=vocoder)
        key = (checkpoint, vocoder)
        if key not in self._converters:
            converter = self._load(self.checkpoints[checkpoint], vocoder)
            while len(self._converters) >= KEPT_CONVERTERS:
                del self._converters[next(iter(self._converters))]
            self._converters[key] = converter
        return self._converters[key]

    def check(self, recording: Path) -> None:
        """Check a recording against the limits.

        Args:
            recording: The file.

        Raises:
            InputError: It is too large or too long, or no sound.
        """
        self.limits.check(recording)

    def check_voice(self, request: VoiceRequest) -> None:
        """Check a request as far as possible without loading a network.

        Args:
            request: The voice.

        Raises:
            InputError: Something is missing, not offered, or beyond the limits.
        """
        settings = request.settings
        if not request.targets and not request.learned:
            raise InputError("there is no voice yet; record or upload a recording of one")
        require_one_of(list(self.checkpoints), "page", checkpoint=settings.checkpoint)
        require_one_of(self.vocoders, "page", vocoder=settings.vocoder)
        require_within(0, 10, "", guidance=settings.guidance)
        require_seed("seed", settings.seed)
        if request.learned:
            with hide_folders([self.voices]):
                voices.load(self.voices, request.learned)
        else:
            for recording in request.targets:
                self.check(recording)

    def convert(
        self, source: Path | None, request: VoiceRequest, progress: Progress
    ) -> ConversionResult:
        """Convert a recording and measure the result.

        Args:
            source: The source recording; None if there is none yet.
            request: The voice.
            progress: Called with the share that is done, 0…1, and the name of the next step.

        Raises:
            InputError: Something is missing, not offered, or beyond the limits. Recordings are
                named without their folders.
        """
        if source is None:
            raise InputError("there is no recording of the words yet; record or upload one")
        self.check(source)
        self.check_voice(request)
        settings, learned = request.settings, request.learned
        targets = [] if learned else request.targets
        if not self._is_quiet.is_set():
            progress(WAITING, "Waiting for a live session")
            self._is_quiet.wait()
        with self._lock, hide_folders([source, *targets, self.voices]):
            progress(LOADING, "Loading the converter")
            converter = self._prepared(settings)
            progress(ANALYZING, "Analysing the recordings")
            started = time.perf_counter()
            analyzed = converter.analyze(source)
            recordings = [converter.analyze(target) for target in targets]
            voice = self._voice(converter, learned, recordings)
            analysis_seconds = time.perf_counter() - started
            (result,) = convert_and_measure(
                converter,
                [ConversionRequest(analyzed, voice)],
                settings.seed,
                lambda share: progress(CONVERTING + (MEASURING - CONVERTING) * share, "Converting"),
            )
            progress(MEASURING, "Measuring")
            name = f"{source.stem}_to_{learned or targets[0].stem}.wav"
            return page_result(converter, [analyzed, *recordings], result, name, analysis_seconds)

    def begin_live(self) -> bool:
        """Reserve the processor for a live stream.

        New conversions wait until `end_live`.

        Returns:
            Whether the stream may begin; False while a conversion is still running.
        """
        self._is_quiet.clear()
        return self._lock.acquire(blocking=False)

    def end_live(self, *, has_begun: bool) -> None:
        """Let conversions run again.

        Args:
            has_begun: What the last `begin_live` returned.
        """
        if has_begun:
            self._lock.release()
        self._is_quiet.set()

    def open_stream(self, request: VoiceRequest, sample_rate: int) -> VoiceStream:
        """Open a live stream, between `begin_live` and `end_live`.

        Args:
            request: The voice.
            sample_rate: Sample rate of input and output in Hz.

        Raises:
            InputError: The voice or the sample rate cannot be used.
        """
        targets = [] if request.learned else request.targets
        with hide_folders([*targets, self.voices]):
            converter = self._prepared(request.settings)
            recordings = [converter.analyze(target) for target in targets]
            voice = self._voice(converter, request.learned, recordings)
            seed = request.settings.seed
            return converter.stream(voice, sample_rate=sample_rate, seed=seed)

    def _prepared(self, settings: Settings) -> VoiceConverter:
        """Return the converter of some settings, with their guidance."""
        converter = self.converter(settings.checkpoint, settings.vocoder)
        converter.guidance = settings.guidance
        return converter

    def _voice(self, converter: VoiceConverter, learned: str, recordings: list[Recording]) -> Voice:
        """Load a learned voice, or make one from recordings."""
        if not learned:
            return converter.voice_from(recordings)
        return voices.for_encoder(voices.load(self.voices, learned), converter.encoder_identity)


@torch.inference_mode()
def page_result(
    converter: VoiceConverter,
    recordings: Sequence[Recording],
    result: MeasuredConversion,
    name: str,
    analysis_seconds: float,
) -> ConversionResult:
    """Add mel-spectrograms and a file name to a measured conversion.

    Args:
        converter: The converter that made it.
        recordings: The source, then the recordings of the voice, if there are any.
        result: The conversion.
        name: File name of the conversion.
        analysis_seconds: Computing time of the analysis of all recordings.
    """
    wav = result.wav
    prepared = torch.from_numpy(converter.mel.filtered(wav))  # at its own level
    mels = [converter.mel.extract(one.wav, converter.sample_rate) for one in recordings[:2]]
    return ConversionResult(
        converter.note(),
        wav,
        converter.sample_rate,
        name,
        analysis_seconds + result.seconds,
        (
            mels[0],
            mels[1] if len(mels) > 1 else None,
            converter.mel(prepared.to(converter.device)).cpu().numpy(),
        ),
        (result.before, result.to_target),
        (1.0, result.to_source),
    )
