"""Convert the pairs of an evaluation, and let judges score the conversions."""

import contextlib
import functools
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from vc_lightning.audio import pitch
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.recording import Recording
from vc_lightning.conversion.voices.voice import Voice, VoiceSample
from vc_lightning.evaluation import robustness
from vc_lightning.evaluation.pairs import DOMAIN, Pair
from vc_lightning.evaluation.part_files import PartialResults
from vc_lightning.evaluation.progress import show_progress
from vc_lightning.evaluation.robustness import ConditionResults
from vc_lightning.evaluation.scorers import (
    distortion,
    dnsmos,
    naturalness,
    prosody,
    voices,
    weights,
    words,
)
from vc_lightning.evaluation.scorers.availability import MissingScorerError
from vc_lightning.evaluation.scorers.networks import campplus, distillmos
from vc_lightning.evaluation.scorers.recognisers import phonemes, pocket_sphinx, whisper
from vc_lightning.evaluation.scores import Rate, ScoredConversion, Sounds
from vc_lightning.evaluation.summary import Evaluation, combine

Result = TypeVar("Result")
log = logging.getLogger(__name__)

# Values of scorers=; GE2E, which is in the converter, always scores the voice.
ASPECTS = (
    *("campplus", "distillmos", "words", pocket_sphinx.ASPECT, phonemes.ASPECT),
    *("prosody", "tiny_en", "dnsmos", "codes"),
)


def evaluate(
    converter: VoiceConverter,
    pairs: Sequence[Pair],
    aspects: Sequence[str],
    recogniser: str,
    seed: int,
    n_robustness: int,
    vocoder_alone: bool = True,
) -> Evaluation:
    """Convert and score pairs; `Evaluator` explains the arguments that are not named here.

    Args:
        pairs: The pairs.
        n_robustness: Number of pairs of each domain to convert under worse conditions as well.

    Raises:
        InputError: A recording is unusable; all are read before any is converted.
    """
    evaluator = Evaluator(converter, aspects, recogniser, seed, vocoder_alone)
    evaluator.analyze(pairs)
    robust = robustness.chosen(pairs, n_robustness, DOMAIN)
    return combine(pairs, [evaluator.score(dict(enumerate(pairs)), robust)], aspects)


class Evaluator:
    """Converts and scores pairs; keeps analyzed recordings, voices and judges between calls.

    Args:
        converter: The converter.
        aspects: Some of `ASPECTS`, to score besides the voice; those whose packages or weights are
            missing are left out.
        recogniser: Whisper model that scores words, see `whisper.Recogniser`.
        seed: Seed of the vocoder.
        vocoder_alone: Whether to score sources resynthesised by the vocoder alone as well.

    Raises:
        InputError: There is no such recogniser.
    """

    n_timed = 3  # first conversions of an evaluation, whose steps are timed

    def __init__(
        self,
        converter: VoiceConverter,
        aspects: Sequence[str],
        recogniser: str,
        seed: int,
        vocoder_alone: bool = True,
    ):
        self.converter = converter
        self.recogniser = recogniser
        self.seed = seed
        self.vocoder_alone = vocoder_alone
        self.missing: list[str] = []
        self.aspects = list(aspects)
        for aspect, (check, _) in self._known_judges().items():
            try:
                if aspect in self.aspects:
                    check()
            except MissingScorerError as error:
                log.warning("%s", error)
                self.missing.append(str(error))
                self.aspects.remove(aspect)
        self.sources: dict[Path, Recording] = {}
        self.samples: dict[Path, Recording | VoiceSample] = {}  # of all recordings
        self.voices: dict[tuple[Path, ...], Voice] = {}
        self.embeddings: dict[str, dict[Path, np.ndarray]] = {"ge2e": {}, "campplus": {}}
        self.is_warm = False

    @functools.cached_property
    def _judges(self) -> dict[str, Any]:
        """The judges by their aspect: made once, after the first conversions were timed."""
        known = self._known_judges().items()
        return {aspect: make() for aspect, (_, make) in known if aspect in self.aspects}

    def _known_judges(self) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
        """For each aspect, what checks that packages and weights are there, and its judge."""
        base, tiny_en = self.recogniser, whisper.TINY_EN
        require, listener = weights.require, distillmos.DistillMOSListener
        return {
            "campplus": (lambda: require(weights.CAMPPLUS), campplus.SpeakerJudge),
            "distillmos": (lambda: require(weights.DISTILLMOS), listener),
            "words": (lambda: whisper.model_path(base), lambda: whisper.Recogniser(base)),
            pocket_sphinx.ASPECT: (pocket_sphinx.require_installed, pocket_sphinx.PocketSphinx),
            phonemes.ASPECT: (phonemes.require_installed, phonemes.Hama),
            "tiny_en": (lambda: whisper.model_path(tiny_en), lambda: whisper.Recogniser(tiny_en)),
            "dnsmos": (dnsmos.require_installed, dnsmos.DNSMOSListener),
        }

    def analyze(self, pairs: Iterable[Pair]) -> None:
        """Read all recordings of some pairs, with their speaker embedding and pitch.

        Raises:
            InputError: A recording is unusable.
        """
        listed = list(pairs)
        sources = {pair.source for pair in listed}
        paths = dict.fromkeys(chain.from_iterable(map(recordings, listed)))
        for path in show_progress(paths, "recordings"):
            if path in sources and path not in self.sources:
                self.sources[path] = self.samples[path] = self.converter.analyze(path)
            elif path not in self.samples:
                self.samples[path] = self.converter.sample(path)
            self.embeddings["ge2e"][path] = self.samples[path].embedding

    def score(self, pairs: Mapping[int, Pair], robust: Collection[int]) -> PartialResults:
        """Convert and score some of the pairs of an evaluation.

        Args:
            pairs: The pairs by their number; `analyze` must have been called with them.
            robust: Numbers of the pairs to convert under worse conditions as well.

        Returns:
            Results of these pairs, without scores that depend on all pairs of the evaluation.
        """
        conversions = {}
        for index, pair in show_progress(pairs.items(), "conversions"):
            if index < self.n_timed:  # no judge is loaded yet, whose threads would slow it down
                conversions[index] = self._timed(pair)
            else:
                conversions[index] = self._converted(pair, self.sources[pair.source], None)
        self._resynthesize(conversions.values())
        tested = {i: conversion for i, conversion in conversions.items() if i in robust}
        conditions, left_out = [], Counter(dict.fromkeys(self.missing, 0))
        if tested:
            conditions = robustness.convert(self.converter, tested, self._converted)
            # Not |=, with which a Counter drops all reasons counted as 0.
            left_out.update(dict.fromkeys(robustness.unavailable(), 0))
        paths = dict.fromkeys(chain.from_iterable(map(recordings, pairs.values())))
        if "campplus" in self.aspects:
            self._embed_by_campplus(paths)
        self._judge(list(conversions.values()), conditions, left_out)
        codes = self._codes(paths) if "codes" in self.aspects else {}
        embeddings = {
            judge: {path: known[path] for path in paths}
            for judge, known in self.embeddings.items()
            if known
        }
        return PartialResults(conversions, conditions, embeddings, codes, left_out)

    # Conversion ----------------------------------------------------------------------------------

    def _converted(self, pair: Pair, source: Recording, voice: Voice | None) -> ScoredConversion:
        """Convert a source to a voice, by default that of the pair; let GE2E score the voice."""
        return self._scored(pair, source, self.convert(pair, source, voice))

    def _scored(self, pair: Pair, source: Recording, wav: np.ndarray) -> ScoredConversion:
        """Let GE2E score the voice of a conversion (n,)."""
        conversion = ScoredConversion(pair, Sounds(source.wav, wav))
        embedding = None
        with contextlib.suppress(InputError):  # there is no speech in it
            embedding = self.converter.embed(wav)
        conversion.scores["ge2e/speech"] = float(embedding is not None)
        voices.score("ge2e", conversion.scores, pair, self.embeddings["ge2e"], embedding)
        return conversion

    def convert(self, pair: Pair, source: Recording, voice: Voice | None = None) -> np.ndarray:
        """Convert a source to a voice, by default that of the pair -> float32 (n,).

        Evaluators of other converters override it.
        """
        voice = self._voice_of(pair) if voice is None else voice
        return self.converter.convert_analyzed([source], [voice], self.seed)[0]

    def _voice_of(self, pair: Pair) -> Voice:
        """Return the target's voice, which is made only once."""
        if pair.voice not in self.voices:
            own = [self.samples[path] for path in pair.voice]
            self.voices[pair.voice] = self.converter.voice_from(own)
        return self.voices[pair.voice]

    def _resynthesize(self, conversions: Iterable[ScoredConversion]) -> None:
        """Add the sources resynthesised by the vocoder alone."""
        known: dict[Path, np.ndarray] = {}
        for conversion in conversions if self.vocoder_alone else ():
            source, sounds = conversion.pair.source, conversion.sounds
            if source not in known:
                known[source] = self.converter.resynthesize(self.sources[source], self.seed)
            conversion.sounds_in_memory = Sounds(sounds.source, sounds.conversion, known[source])

    def _timed(self, pair: Pair) -> ScoredConversion:
        """Convert and score a pair; the scores include computing times of all steps."""
        converter, source = self.converter, self.sources[pair.source]
        wav, rate = source.wav, self.converter.sample_rate
        duration = len(wav) / rate
        voice = self._voice_of(pair)  # which is not timed: it serves many conversions
        scores: dict[str, Rate] = {}
        steps: dict[str, Callable[[], object]] = {
            "speaker_encoder": lambda: converter.embed(wav),
            "mel": lambda: converter.mel.extract(wav, rate),
        }
        if converter.autovc.f0:
            steps["pitch"] = lambda: pitch.track(wav, rate, converter.mel.hop_length)
        if not self.is_warm:  # the first calls are slower
            self.convert(pair, converter.analyze(wav), voice)
            converter.resynthesize(wav, self.seed)
            self.is_warm = True
        for name, step in steps.items():
            scores[f"speed/{name}"] = Rate(_seconds(step)[0], duration)
        with _stopwatch(converter.autovc) as network:
            whole, made = _seconds(lambda: self.convert(pair, converter.analyze(wav), voice))
        scores["speed/autovc"] = Rate(sum(network), duration)
        scores["speed/conversion"] = Rate(whole, duration)
        resynthesis, _ = _seconds(lambda: converter.resynthesize(wav, self.seed))
        vocoder = max(0.0, resynthesis - scores["speed/mel"].amount)
        scores["speed/vocoder"] = Rate(vocoder, duration)
        conversion = self._scored(pair, source, made)
        conversion.scores.update(scores)
        return conversion

    def _codes(self, paths: Iterable[Path]) -> dict[Path, np.ndarray]:
        """Compute the codes (n_channels, T/freq) of recordings."""
        found = {}
        for path in show_progress(list(paths), "codes"):
            recording = self.sources.get(path) or self.converter.analyze(path)
            found[path] = self.converter.codes(recording)
        return found

    # Judges --------------------------------------------------------------------------------------

    def _embed_by_campplus(self, paths: Collection[Path]) -> None:
        known, rate = self.embeddings["campplus"], self.converter.sample_rate
        for path in show_progress(paths, "campplus"):
            if path not in known:
                known[path] = self._judges["campplus"].embed(self.converter.load(path), rate)

    def _judge(
        self,
        conversions: Sequence[ScoredConversion],
        conditions: Sequence[ConditionResults],
        left_out: Counter[str],
    ) -> None:
        converter, rate = self.converter, self.converter.sample_rate
        distortion.score(converter, conversions)
        if "prosody" in self.aspects:
            contours = {path: one.f0 for path, one in self.samples.items()}
            prosody.score(conversions, contours, rate, converter.mel.hop_length)
        if "campplus" in self.aspects:
            tested = [c for results in conditions[1:] for c in results.conversions.values()]
            for conversion in show_progress([*conversions, *tested], "campplus"):
                self._judge_by_campplus(conversion)
        judges = self._judges
        for name in ("distillmos", "dnsmos"):
            if judge := judges.get(name):
                naturalness.score(name, judge, conversions, converter.mel)
                robustness.score_naturalness(name, judge, conditions, rate)
        if judge := judges.get("words"):
            left_out.update(words.score(judge, conversions, rate))
            robustness.score_words(judge, conditions, rate)
        if judge := judges.get("tiny_en"):
            left_out.update(words.score(judge, conversions, rate, "tiny_en", False))
        if judge := judges.get(pocket_sphinx.ASPECT):
            left_out.update(pocket_sphinx.score(judge, conversions, rate))
        if judge := judges.get(phonemes.ASPECT):
            left_out.update(phonemes.score(judge, conversions, rate))
            robustness.score_phonemes(judge, conditions, rate)

    def _judge_by_campplus(self, conversion: ScoredConversion) -> None:
        embedding, scores = None, conversion.scores
        if scores.has_speech:
            wav, rate = conversion.sounds.conversion, self.converter.sample_rate
            embedding = self._judges["campplus"].embed(wav, rate)
        known = self.embeddings["campplus"]
        voices.score("campplus", scores, conversion.pair, known, embedding)


def recordings(pair: Pair) -> list[Path]:
    """List all recordings of a pair."""
    return [pair.source, pair.source_reference, *pair.voice, pair.target_reference]


def _seconds(function: Callable[[], Result]) -> tuple[float, Result]:
    """Return the time of a call in seconds, and its result."""
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


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
