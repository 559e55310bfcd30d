"""Convert under worse recording conditions, and compare the scores."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from vc_lightning.common.errors import InputError
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.recording import Recording
from vc_lightning.conversion.voices.voice import Voice
from vc_lightning.evaluation import conditions
from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.scorers.recognisers.phonemes import Hama
from vc_lightning.evaluation.scorers.recognisers.texts import character_errors, word_errors
from vc_lightning.evaluation.scorers.recognisers.whisper import Recogniser
from vc_lightning.evaluation.scores import ScoredConversion, figures
from vc_lightning.evaluation.statistics import Figure

CLEAN = "as recorded"
Converted = Callable[[Pair, Recording, Voice | None], ScoredConversion]  # None: the pair's voice
COLUMNS = {  # scores of the table, with short titles
    "campplus/to_target": "CAM++ to the target ↑",
    "campplus/nearer": "nearer by CAM++ ↑",
    "distillmos/conversion": "DistillMOS ↑",
    "words/character_errors": "character error rate ↓",
    "phonemes/errors": "phoneme error rate ↓",
    "ge2e/to_target": "GE2E to the target ↑",
    "ge2e/nearer": "nearer by GE2E ↑",
    "dnsmos/conversion": "DNSMOS ↑",
}


@dataclass(frozen=True)
class ConditionResults:
    """Conversions of some sources under one condition.

    Attributes:
        condition: Name of the condition, see `conditions`, or `CLEAN`.
        conversions: The conversions by the number of their pair.
        refused: One sentence for each source that could not be converted.
    """

    condition: str
    conversions: dict[int, ScoredConversion] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


def chosen(pairs: Sequence[Pair], n: int) -> list[int]:
    """Choose the numbers of at most n pairs of each domain, spread evenly over it."""
    domains = defaultdict(list)
    for index, pair in enumerate(pairs):
        domains[pair.domain].append(index)
    return [
        own[place]
        for own in domains.values()
        for place in np.unique(np.linspace(0, len(own) - 1, min(n, len(own))).round().astype(int))
    ]


def unavailable() -> list[str]:
    """List the conditions that this machine cannot simulate, one sentence each."""
    return [
        f"robustness, {condition}: this libsndfile writes no MP3"
        for condition, change in conditions.SOURCES.items()
        if not conditions.is_available(change)
    ]


def convert(
    converter: VoiceConverter,
    clean: Mapping[int, ScoredConversion],
    sources: Mapping[Path, Recording],
    converted: Converted,
) -> list[ConditionResults]:
    """Convert sources under every condition to clean voices, then clean sources to worse voices.

    The second speaker of a source is the source of the next pair. A voice that has too few seconds
    for a condition is left out of it.

    Args:
        converter: The converter.
        clean: Conversions of the sources as recorded, by the number of their pair.
        sources: These sources.
        converted: Converts a source to the voice of a pair, or to another one.

    Returns:
        Results for clean sources, then for each condition.
    """
    found = [ConditionResults(CLEAN, dict(clean))]
    for condition, of_voices, changed in _changed(converter, clean):
        results = ConditionResults(condition)
        for index, wav in changed.items():
            pair, wav = clean[index].pair, wav.astype(np.float32)
            try:
                analyzed = sources[pair.source] if of_voices else converter.analyze(wav)
                voice = converter.voice(wav) if of_voices else None
            except InputError as error:
                path = pair.voice[0] if of_voices else pair.source
                results.refused.append(f"{path}: {error}")
                continue
            results.conversions[index] = converted(pair, analyzed, voice)
        found.append(results)
    return found


def _changed(
    converter: VoiceConverter, clean: Mapping[int, ScoredConversion]
) -> Iterator[tuple[str, bool, dict[int, np.ndarray]]]:
    """Yield each condition, whether it is one of voices, and the changed sound of each pair."""
    rate = converter.sample_rate
    sources = {index: conversion.sounds.source for index, conversion in clean.items()}
    for condition, change in conditions.SOURCES.items():
        if conditions.is_available(change):
            yield condition, False, {i: change(wav, rate) for i, wav in sources.items()}
    others = _second_speakers(clean)
    for condition, level in conditions.SECOND_SPEAKERS.items() if others else ():
        mix = conditions.with_second_speaker
        yield condition, False, {i: mix(sources[i], wav, level) for i, wav in others.items()}
    voices = {
        i: np.concatenate([converter.load(path) for path in c.pair.voice]) for i, c in clean.items()
    }
    for condition, change in conditions.TARGETS.items():
        changed = {i: change(wav, rate) for i, wav in voices.items()}
        if long_enough := {i: wav for i, wav in changed.items() if len(wav)}:
            yield condition, True, long_enough


def _second_speakers(clean: Mapping[int, ScoredConversion]) -> dict[int, np.ndarray]:
    """Find the source of the next pair for every source, unless both have the same speaker."""
    pairs = zip(clean.items(), [*clean.values()][1:] + [*clean.values()][:1], strict=True)
    return {
        index: other.sounds.source
        for (index, conversion), other in pairs
        if other.pair.source_speaker != conversion.pair.source_speaker
    }


def score_words(
    recogniser: Recogniser, conditions: Sequence[ConditionResults], sample_rate: int
) -> None:
    """Set the character error rates; the references are transcripts of the clean sources.

    Args:
        recogniser: Transcribes recordings.
        conditions: The results, those for clean sources first.
        sample_rate: Sample rate of the sound in Hz.
    """
    for conversion, reference in _with_references(conditions, "words/source"):
        after = conversion.heard(recogniser.transcript, sample_rate, conversion.pair.language)
        conversion.scores["words/character_errors"] = character_errors(reference, after)
        conversion.transcripts["words/conversion"] = after


def score_phonemes(
    recogniser: Hama, conditions: Sequence[ConditionResults], sample_rate: int
) -> None:
    """Set the phoneme error rates against the phonemes of the clean sources; see `score_words`."""
    for conversion, reference in _with_references(conditions, "phonemes/source"):
        after = " ".join(conversion.heard(recogniser.phonemes, sample_rate))
        conversion.scores["phonemes/errors"] = word_errors(reference, after)


def _with_references(
    conditions: Sequence[ConditionResults], transcript: str
) -> Iterator[tuple[ScoredConversion, str]]:
    """Yield conversions under worse conditions, with transcripts of their clean sources."""
    for results in conditions[1:]:
        for index, conversion in results.conversions.items():
            reference = conditions[0].conversions[index].transcripts.get(transcript)
            if reference:
                yield conversion, reference


def summary(results: ConditionResults) -> dict[str, Figure]:
    """Average the scores of `COLUMNS`."""
    return figures(list(results.conversions.values()), list(COLUMNS))


def to_json(conditions: Sequence[ConditionResults]) -> list[dict[str, object]]:
    """Return the results for report.json."""
    return [
        {
            "condition": results.condition,
            "converted": len(results.conversions),
            "refused": results.refused,
            "figures": {key: asdict(value) for key, value in summary(results).items()},
        }
        for results in conditions
    ]


def lines(conditions: Sequence[ConditionResults]) -> Iterator[str]:
    """Yield the section of report.md, with one row per condition."""
    summaries = [summary(results) for results in conditions]
    columns = {k: title for k, title in COLUMNS.items() if any(k in found for found in summaries)}
    yield from ("## Robustness", "")
    yield (
        "The same sources under worse conditions, and to shorter or noisy voices; transcripts are "
        "compared with those of the sources as recorded. Means are over the conversions that could "
        "be made: a voice with too few seconds is left out of a condition."
    )
    yield from ("", f"| condition | converted | {' | '.join(columns.values())} |")
    yield "|---|---:|" + "---:|" * len(columns)
    for results, found in zip(conditions, summaries, strict=True):
        n = len(results.conversions)
        values = [f"{found[key].mean:.3f}" if key in found else "–" for key in columns]
        converted = f"{n} of {n + len(results.refused)}"
        yield f"| {results.condition} | {converted} | {' | '.join(values)} |"
    refused = [sentence for results in conditions for sentence in results.refused]
    yield from ("", *(f"- refused: {sentence}" for sentence in refused))
