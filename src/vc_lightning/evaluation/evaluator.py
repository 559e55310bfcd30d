"""Convert the pairs of an evaluation, and let judges score the conversions."""

import contextlib
import functools
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from vc_lightning.common.errors import InputError
from vc_lightning.common.progress import Progress, no_progress
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.recording import Recording
from vc_lightning.conversion.voices.voice import Voice, VoiceSample
from vc_lightning.evaluation import robustness, speed
from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.progress import show_progress
from vc_lightning.evaluation.report.part_files import PartialResults
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

log = logging.getLogger(__name__)

WARM_UP_SECONDS = 2
# Values of scorers=; GE2E, which is in the converter, always scores the voice.
ASPECTS = (
    *("campplus", "distillmos", "words", pocket_sphinx.ASPECT, phonemes.ASPECT),
    *("prosody", "tiny_en", "dnsmos", "codes"),
)


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

    n_timed = 3  # first conversions of an evaluation, whose computing times are scored

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
        self.vocoded: dict[Path, np.ndarray] = {}  # sources through the vocoder alone
        self.seconds: dict[Path, dict[str, float]] = {}  # by step, see `speed.of_analysis`

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
        if paths and not self.samples:
            self._warm_up(next(iter(paths)))
        for path in show_progress(paths, "recordings"):
            if path in sources and path not in self.sources:
                self._analyze_source(path)
            elif path not in self.samples:
                self.samples[path] = self.converter.sample(path)
            self.embeddings["ge2e"][path] = self.samples[path].embedding

    def _warm_up(self, path: Path) -> None:
        """Analyze the start of a recording, as the first calls of the networks are slower."""
        with contextlib.suppress(InputError):  # there is no speech, or it is refused later
            wav = self.converter.load(path)
            self.converter.analyze(wav[: WARM_UP_SECONDS * self.converter.sample_rate])

    def _analyze_source(self, path: Path) -> None:
        """Analyze a source, resynthesise it by the vocoder alone, and keep the computing times."""
        converter = self.converter
        source, seconds = speed.of_analysis(converter, lambda: converter.analyze(path))
        if self.vocoder_alone:
            self.vocoded[path], others = speed.of_analysis(
                converter, lambda: converter.resynthesize(source, self.seed)
            )
            seconds["mel"] = others["mel"]  # for networks that listen, the first whole mel
        self.sources[path] = self.samples[path] = source
        self.seconds[path] = seconds

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
            # No judge is loaded yet, whose threads would slow the first ones down.
            conversions[index] = self._as_recorded(pair, is_timed=index < self.n_timed)
        tested = {i: conversion for i, conversion in conversions.items() if i in robust}
        conditions, left_out = [], Counter(dict.fromkeys(self.missing, 0))
        if tested:
            conditions = robustness.convert(self.converter, tested, self.sources, self._converted)
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

    def _as_recorded(self, pair: Pair, is_timed: bool) -> ScoredConversion:
        """Convert a pair and let GE2E score the voice; may score computing times, too."""
        source, seconds = self.sources[pair.source], self.seconds[pair.source]
        voice = self._voice_of(pair) if is_timed else None  # not timed: it serves many conversions
        wav, others = speed.of_conversion(
            lambda progress: self.convert(pair, source, voice, progress)
        )
        sounds = Sounds(source.wav, wav, self.vocoded.get(pair.source))
        conversion = self._scored(pair, sounds)
        if is_timed:
            steps = seconds | others
            steps["conversion"] = steps.pop("whole") + sum(others.values())
            rates = {f"speed/{name}": Rate(s, source.seconds) for name, s in steps.items()}
            conversion.scores.update(rates)
        return conversion

    def _converted(self, pair: Pair, source: Recording, voice: Voice | None) -> ScoredConversion:
        """Convert a source to a voice, by default that of the pair; let GE2E score the voice."""
        return self._scored(pair, Sounds(source.wav, self.convert(pair, source, voice)))

    def _scored(self, pair: Pair, sounds: Sounds) -> ScoredConversion:
        """Let GE2E score the voice of a conversion."""
        conversion = ScoredConversion(pair, sounds)
        embedding = None
        with contextlib.suppress(InputError):  # there is no speech in it
            embedding = self.converter.embed(sounds.conversion)
        conversion.scores["ge2e/speech"] = float(embedding is not None)
        voices.score("ge2e", conversion.scores, pair, self.embeddings["ge2e"], embedding)
        return conversion

    def convert(
        self,
        pair: Pair,
        source: Recording,
        voice: Voice | None = None,
        progress: Progress = no_progress,
    ) -> np.ndarray:
        """Convert a source to a voice, by default that of the pair -> float32 (n,).

        Evaluators of other converters override it.
        """
        voice = self._voice_of(pair) if voice is None else voice
        return self.converter.convert_analyzed([source], [voice], self.seed, progress)[0]

    def _voice_of(self, pair: Pair) -> Voice:
        """Return the target's voice, which is made only once."""
        if pair.voice not in self.voices:
            own = [self.samples[path] for path in pair.voice]
            self.voices[pair.voice] = self.converter.voice_from(own)
        return self.voices[pair.voice]

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
        tested = [c for results in conditions[1:] for c in results.conversions.values()]
        if "campplus" in self.aspects:
            for conversion in show_progress([*conversions, *tested], "campplus"):
                self._judge_by_campplus(conversion)
        judges = self._judges
        for name in ("distillmos", "dnsmos"):
            if judge := judges.get(name):
                naturalness.score(name, judge, [*conversions, *tested], converter.mel)
        if judge := judges.get("words"):
            left_out.update(words.score(judge, conversions, rate))
            robustness.score_words(judge, conditions, rate)
        if judge := judges.get("tiny_en"):
            left_out.update(words.score(judge, conversions, rate, "tiny_en"))
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
