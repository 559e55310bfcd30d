"""Convert the pairs of an evaluation, and score the conversions with external models."""

import contextlib
import functools
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from vc_lightning.audio import pitch
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.measuring import ConversionRequest, convert_and_measure
from vc_lightning.conversion.recording import Recording
from vc_lightning.conversion.voices.voice import Voice
from vc_lightning.evaluation import domains, pocket_sphinx, robustness, scorers, scoring
from vc_lightning.evaluation.combining import combine
from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.partial_results import PartialResults
from vc_lightning.evaluation.results import (
    ConditionResults,
    Evaluation,
    Rate,
    ScoredConversion,
    Scores,
    Sounds,
)
from vc_lightning.evaluation.scorers import MissingScorerError
from vc_lightning.evaluation.scoring import show_progress

log = logging.getLogger(__name__)

T = TypeVar("T")

# Values of scorers=; the voice is always scored.
ASPECTS = ("words", pocket_sphinx.ASPECT, "naturalness", "prosody", "codes")


def evaluate(
    converter: VoiceConverter,
    pairs: Sequence[Pair],
    aspects: Sequence[str],
    recogniser: str,
    seed: int,
    n_robustness: int,
) -> Evaluation:
    """Convert and score pairs.

    Args:
        converter: The converter.
        pairs: The pairs.
        aspects: Some of `ASPECTS`, to score besides the voice.
        recogniser: Whisper model that scores words, see `scorers.Recogniser`.
        seed: Seed of the vocoder.
        n_robustness: Number of pairs of each domain to convert under worse conditions as well.

    Returns:
        The results.

    Raises:
        InputError: A recording is unusable; all are read before any is converted.
    """
    evaluator = Evaluator(converter, aspects, recogniser, seed)
    numbered = dict(enumerate(pairs))
    evaluator.embed_recordings(pairs)
    results = evaluator.score(numbered, robustness.chosen(pairs, n_robustness, domains.GROUP))
    return combine(pairs, [results], aspects)


class Evaluator:
    """Converts and scores pairs; keeps embeddings, voices and scorers between calls.

    Args:
        converter: The converter.
        aspects: Some of `ASPECTS`, to score besides the voice; those whose packages are not
            installed are left out.
        recogniser: Whisper model that scores words, see `scorers.Recogniser`.
        seed: Seed of the vocoder.

    Raises:
        InputError: There is no such recogniser.
    """

    def __init__(
        self, converter: VoiceConverter, aspects: Sequence[str], recogniser: str, seed: int
    ):
        self.converter = converter
        self.recogniser = recogniser
        self.seed = seed
        self.missing: list[str] = []
        self.aspects = list(aspects)
        self._require("words", lambda: scorers.model_path(recogniser))
        self._require(pocket_sphinx.ASPECT, pocket_sphinx.require_installed)
        self._require("naturalness", scorers.require_listener)
        self.embeddings: dict[Path, np.ndarray] = {}
        self.voices: dict[tuple[Path, ...], Voice] = {}
        self.is_warm = False

    def _require(self, aspect: str, check: Callable[[], object]) -> None:
        """Leave out an aspect whose packages are not installed."""
        if aspect not in self.aspects:
            return
        try:
            check()
        except MissingScorerError as error:
            log.warning("%s", error)
            self.missing.append(str(error))
            self.aspects.remove(aspect)

    @functools.cached_property
    def _listener(self) -> scorers.Listener:
        return scorers.Listener()

    @functools.cached_property
    def _whisper(self) -> scorers.Recogniser:
        return scorers.Recogniser(self.recogniser)

    @functools.cached_property
    def _pocket_sphinx(self) -> pocket_sphinx.PocketSphinx:
        return pocket_sphinx.PocketSphinx()

    def embed_recordings(self, pairs: Iterable[Pair]) -> None:
        """Compute the speaker embeddings of all recordings of some pairs.

        Raises:
            InputError: A recording is unusable.
        """
        paths = dict.fromkeys(chain.from_iterable(map(recordings, pairs)))
        for path in show_progress(paths, "recordings"):
            if path not in self.embeddings:
                self.embeddings[path] = self.converter.embed(path)

    def score(self, pairs: Mapping[int, Pair], robust: Collection[int]) -> PartialResults:
        """Convert and score some of the pairs of an evaluation.

        Args:
            pairs: The pairs by their number; `embed_recordings` must have been called with them.
            robust: Numbers of the pairs to convert under worse conditions as well.

        Returns:
            Results of these pairs, without scores that depend on all pairs of the evaluation.
        """
        conversions = self._convert(pairs)
        tested = {i: conversion for i, conversion in conversions.items() if i in robust}
        conditions, left_out = [], Counter(dict.fromkeys(self.missing, 0))
        if tested:
            conditions = robustness.convert(self.converter, tested, self._request, self.seed)
            # Not |=, with which a Counter drops all reasons counted as 0.
            left_out.update(dict.fromkeys(robustness.unavailable(), 0))
        self._score_sounds(list(conversions.values()), conditions, left_out)
        paths = dict.fromkeys(chain.from_iterable(map(recordings, pairs.values())))
        return PartialResults(
            conversions,
            conditions,
            {path: self.embeddings[path] for path in paths},
            self._codes(paths) if "codes" in self.aspects else {},
            left_out,
        )

    def _score_sounds(
        self,
        conversions: Sequence[ScoredConversion],
        conditions: Sequence[ConditionResults],
        left_out: Counter[str],
    ) -> None:
        rate = self.converter.sample_rate
        scoring.score_distortion(self.converter, conversions)
        if "prosody" in self.aspects:
            scoring.score_prosody(self.converter, conversions)
        # Last, because the threads of these models slow down the other work.
        if "naturalness" in self.aspects:
            scoring.score_naturalness(self._listener, conversions, self.converter.mel)
            robustness.score_naturalness(self._listener, conditions, rate)
        if "words" in self.aspects:
            left_out.update(scoring.score_words(self._whisper, conversions, rate))
            robustness.score_words(self._whisper, conditions, rate)
        if pocket_sphinx.ASPECT in self.aspects:
            shown = show_progress(conversions, "words again")
            left_out.update(pocket_sphinx.score_words(self._pocket_sphinx, shown, rate))

    def _request(self, pair: Pair, source: Recording) -> ConversionRequest:
        if pair.voice not in self.voices:
            self.voices[pair.voice] = self.converter.voice(pair.voice)
        references = self.embeddings[pair.target_reference], self.embeddings[pair.source_reference]
        return ConversionRequest(source, self.voices[pair.voice], *references)

    def _convert(self, pairs: Mapping[int, Pair]) -> dict[int, ScoredConversion]:
        """Convert pairs, resynthesise their sources with the vocoder alone, and measure times."""
        sources: dict[Path, _Source] = {}
        conversions = {}
        for index, pair in show_progress(pairs.items(), "conversions"):
            if pair.source not in sources:
                sources[pair.source] = self._analyze(pair.source)
            source = sources[pair.source]
            request = self._request(pair, source.recording)
            if not self.is_warm:  # the first conversion is slower, so it is not timed
                convert_and_measure(self.converter, [request], self.seed)
                self.is_warm = True
            with _stopwatch(self.converter.autovc) as network:
                (measured,) = convert_and_measure(self.converter, [request], self.seed)
            wav = source.recording.wav
            duration = len(wav) / self.converter.sample_rate
            conversion = ScoredConversion(pair, Sounds(wav, source.vocoder, measured.wav))
            scoring.score_voice(conversion.scores, measured)
            self._score_speed(conversion.scores, source, sum(network), measured.seconds, duration)
            conversions[index] = conversion
        return conversions

    def _analyze(self, path: Path) -> "_Source":
        converter, rate = self.converter, self.converter.sample_rate
        recording, analysis = _timed(converter.analyze, path)
        wav = recording.wav
        _, encoder = _timed(converter.embed, wav)
        _, mel = _timed(converter.mel.extract, wav, rate)
        vocoder_wav, resynthesis = _timed(converter.resynthesize, wav, self.seed)
        f0 = None
        if converter.autovc.f0:
            _, f0 = _timed(pitch.track, wav, rate, converter.mel.hop_length)
        vocoder = max(0.0, resynthesis - mel)
        return _Source(recording, vocoder_wav, analysis, encoder, mel, vocoder, f0)

    def _score_speed(
        self, scores: Scores, source: "_Source", autovc: float, conversion: float, duration: float
    ) -> None:
        """Set the computing times of a conversion and of its steps, in seconds."""
        scores.speed_speaker_encoder = Rate(source.encoder, duration)
        scores.speed_mel = Rate(source.mel, duration)
        scores.speed_vocoder = Rate(source.vocoder_seconds, duration)
        if source.pitch is not None:
            scores.speed_pitch = Rate(source.pitch, duration)
        scores.speed_autovc = Rate(autovc, duration)
        scores.speed_conversion = Rate(source.analysis + conversion, duration)

    def _codes(self, paths: Iterable[Path]) -> dict[Path, np.ndarray]:
        """Compute the codes (n_channels, T/freq) of recordings."""
        converter = self.converter
        shown = show_progress(paths, "codes")
        return {path: converter.codes(converter.analyze(path)) for path in shown}


def recordings(pair: Pair) -> list[Path]:
    """List all recordings of a pair."""
    return [pair.source, pair.source_reference, *pair.voice, pair.target_reference]


@dataclass(frozen=True)
class _Source:
    """A source recording, and computing times in seconds."""

    recording: Recording
    vocoder: np.ndarray  # the recording resynthesised by the vocoder alone, (n,)
    analysis: float
    encoder: float
    mel: float
    vocoder_seconds: float
    pitch: float | None  # None for a network without F0 inputs


def _timed(function: Callable[..., T], *arguments: object) -> tuple[T, float]:
    """Call a function; return its result and its time in seconds."""
    started = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - started


@contextlib.contextmanager
def _stopwatch(network: nn.Module) -> Iterator[list[float]]:
    """Measure the time in seconds of each call of a network's submodules inside the block."""
    started, seconds = [], []

    def now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    hooks = []
    for part in network.children():  # never nested: a conversion calls one after the other
        hooks.append(part.register_forward_pre_hook(lambda *_: started.append(now())))
        hooks.append(part.register_forward_hook(lambda *_: seconds.append(now() - started.pop())))
    try:
        yield seconds
    finally:
        for hook in hooks:
            hook.remove()
