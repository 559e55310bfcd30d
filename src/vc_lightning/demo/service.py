"""What the page does with recordings: limits, one conversion at a time, how near it came."""

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
from vc_lightning.conversion.recordings import AnalyzedRecording

KEPT_CONVERTERS = 3  # in memory; a shipped one takes some 60 MB

LOADING, HEARING, CONVERTING, MEASURING = 0.05, 0.15, 0.3, 0.9  # shares of the progress

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Settings:
    """How a conversion is made: names that the service offers, and numbers."""

    checkpoint: str
    vocoder: str
    guidance: float
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What a conversion gave.

    Attributes:
        note: what its file shall say of itself.
        wav, sample_rate: float32 (n,) and its rate in Hz.
        name: of a file for it, such as source_to_target.wav.
        seconds: that the conversion took, without loading and measuring.
        mels: source, target (None for a learned voice) and result, each (n_mels, T).
        to_target, to_source: GE2E cosines before and after, None where the result has too
            little speech to be measured.
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
    """Converts recordings with one of several converters, which are loaded once and kept.

    Args:
        checkpoints: files by the names that are offered; the first one is the default.
        vocoders: names that are offered; the first one is the default.
        load: makes a converter of a checkpoint and the name of a vocoder.
        voices: the folder of learned voices.
        max_seconds, max_megabytes: of one recording.
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
        self._lock = threading.Lock()

    def converter(self, checkpoint: str, vocoder: str) -> VoiceConverter:
        """The converter of two offered names; InputError for any other name."""
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
        """Raises InputError when a recording is too large or long, or is no sound."""
        self.limits.check(recording)

    def convert(
        self,
        source: Path | None,
        targets: Sequence[Path],
        learned: str,
        settings: Settings,
        progress: Progress,
    ) -> Outcome:
        """Says what the source says in the voice of the targets.

        Args:
            learned: the name of a voice to be taken in place of the targets, or "".
            progress: told the share that is done, 0…1, and what comes next.
        Raises: InputError naming a recording by its name without folders, or what is missing.
        """
        if source is None:
            raise InputError("there are no words yet; record or upload a recording under 1")
        if not targets and not learned:
            raise InputError("there is no voice yet; record or upload a recording under 2")
        require_within(0, 10, "", guidance=settings.guidance)
        require_seed("seed", settings.seed)
        targets = [] if learned else targets
        recordings = [source, *targets]
        for recording in recordings:
            self.check(recording)
        with self._lock, hide_folders([*recordings, self.voices]):
            progress(LOADING, "Loading the converter")
            converter = self.converter(settings.checkpoint, settings.vocoder)
            converter.guidance = settings.guidance
            progress(HEARING, "Listening")
            started = time.perf_counter()
            heard = converter.analyze(source)
            given = [converter.analyze(target, with_pitch=True) for target in targets]
            if learned:
                kept = voices.load(self.voices, learned)
                voice = voices.for_encoder(kept, converter.encoder_identity)
            else:
                voice = converter.voice_from(given)
            analysis_seconds = time.perf_counter() - started
            (result,) = convert_and_measure(
                converter,
                [ConversionRequest(heard, voice)],
                settings.seed,
                lambda share: progress(CONVERTING + (MEASURING - CONVERTING) * share, "Converting"),
            )
            progress(MEASURING, "Measuring")
            name = f"{source.stem}_to_{learned or targets[0].stem}.wav"
            return outcome_of(converter, [heard, *given], result, name, analysis_seconds)


@torch.inference_mode()
def outcome_of(
    converter: VoiceConverter,
    recordings: Sequence[AnalyzedRecording],
    result: MeasuredConversion,
    name: str,
    analysis_seconds: float,
) -> Outcome:
    """Add pictures and a file name to a measured conversion.

    Args:
        converter: The converter that made it.
        recordings: The source, then the recordings of the voice, if there are any.
        result: The conversion.
        name: File name of the conversion.
        analysis_seconds: Computing time of the analysis of all recordings.
    """
    wav = result.wav
    prepared = torch.from_numpy(converter.mel.filtered(wav))  # its level is the vocoder's
    mels = [converter.mel.extract(one.wav, converter.sample_rate) for one in recordings[:2]]
    return Outcome(
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
