"""Results of an evaluation: scores of each conversion, and means over groups of conversions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vc_lightning.evaluation import metrics
from vc_lightning.evaluation.metrics import Figure
from vc_lightning.evaluation.pairs import Pair

TITLES = {  # ↑ higher is better, ↓ lower is better
    "similarity_to_target": "similarity to the target ↑",
    "similarity_to_source": "similarity to the source's speaker ↓",
    "similarity_before": "similarity of the source to the target",
    "similarity_nearer": "share nearer to the target than to the source's speaker ↑",
    "similarity_accepted": "share accepted as the target ↑",
    "similarity_speech": "share in which speech is found ↑",
    "words_word_errors": "word error rate ↓",
    "words_character_errors": "character error rate ↓",
    "words_vocoder_word_errors": "word error rate, vocoder alone ↓",
    "words_vocoder_character_errors": "character error rate, vocoder alone ↓",
    "pocketsphinx_source": "character error rate of PocketSphinx on the sources",
    "pocketsphinx_conversion": "character error rate of PocketSphinx on the conversions ↓",
    "naturalness_recording": "DNSMOS of the recordings",
    "naturalness_vocoder": "DNSMOS, vocoder alone ↑",
    "naturalness_conversion": "DNSMOS of the conversions ↑",
    "prosody_correlation": "correlation of log-F0 with the source ↑",
    "prosody_voiced_agreement": "share of frames voiced as in the source ↑",
    "prosody_range_source": "range of F0 in the source, semitones",
    "prosody_range_conversion": "range of F0 in the conversion, semitones",
    "prosody_range_target": "range of F0 in the target, semitones",
    "prosody_distance_before": "median F0, source to target, semitones",
    "prosody_distance": "median F0, conversion to target, semitones ↓",
    "distortion_before": "mel-cepstral distortion, source to target, dB",
    "distortion_conversion": "mel-cepstral distortion, conversion to target, dB ↓",
    "speed_speaker_encoder": "speaker encoder, s per second of speech",
    "speed_mel": "mel, s per second of speech",
    "speed_pitch": "pitch, s per second of speech",
    "speed_autovc": "AutoVC, s per second of speech",
    "speed_vocoder": "vocoder, s per second of speech",
    "speed_conversion": "conversion as a whole, s per second of speech ↓",
}
SCORES = tuple(TITLES)


@dataclass(frozen=True)
class Rate:
    """A score that is weighted by its base when it is averaged.

    Attributes:
        amount: Errors, or seconds of computing.
        base: Words or characters of the reference, or seconds of speech.
    """

    amount: float
    base: float

    @property
    def value(self) -> float:
        """Amount over base."""
        return self.amount / self.base


@dataclass
class Scores:
    """Scores of one conversion; None where a score was not or could not be measured.

    `TITLES` describes each score. The part of a name before the first underscore is the section of
    the report. In report.json and TensorBoard a slash replaces this underscore.
    """

    similarity_to_target: float | None = None
    similarity_to_source: float | None = None
    similarity_before: float | None = None
    similarity_nearer: float | None = None
    similarity_accepted: float | None = None
    similarity_speech: float | None = None
    words_word_errors: Rate | None = None
    words_character_errors: Rate | None = None
    words_vocoder_word_errors: Rate | None = None
    words_vocoder_character_errors: Rate | None = None
    pocketsphinx_source: Rate | None = None
    pocketsphinx_conversion: Rate | None = None
    naturalness_recording: float | None = None
    naturalness_vocoder: float | None = None
    naturalness_conversion: float | None = None
    prosody_correlation: float | None = None
    prosody_voiced_agreement: float | None = None
    prosody_range_source: float | None = None
    prosody_range_conversion: float | None = None
    prosody_range_target: float | None = None
    prosody_distance_before: float | None = None
    prosody_distance: float | None = None
    distortion_before: float | None = None
    distortion_conversion: float | None = None
    speed_speaker_encoder: Rate | None = None
    speed_mel: Rate | None = None
    speed_pitch: Rate | None = None
    speed_autovc: Rate | None = None
    speed_vocoder: Rate | None = None
    speed_conversion: Rate | None = None

    @property
    def has_speech(self) -> bool:
        """Whether speech was found in the conversion; True if that was not measured."""
        return self.similarity_speech != 0

    def value(self, name: str) -> float | None:
        """Return a score as a number, also a rate."""
        score = getattr(self, name)
        return score.value if isinstance(score, Rate) else score

    def values(self) -> dict[str, float]:
        """Return all scores that were measured as numbers, by their names in the report."""
        found = {report_key(name): self.value(name) for name in SCORES}
        return {key: value for key, value in found.items() if value is not None}


def report_key(name: str) -> str:
    """Return a score's name in report.json and TensorBoard, such as similarity/to_target."""
    return name.replace("_", "/", 1)


@dataclass
class Transcripts:
    """Transcripts as plain text; None where the recogniser was not run.

    Attributes:
        source: Whisper's transcript of the source.
        vocoder: Whisper's transcript of the source resynthesised by the vocoder alone.
        conversion: Whisper's transcript of the conversion.
        pocketsphinx_source: PocketSphinx's transcript of the source.
        pocketsphinx_conversion: PocketSphinx's transcript of the conversion.
    """

    source: str | None = None
    vocoder: str | None = None
    conversion: str | None = None
    pocketsphinx_source: str | None = None
    pocketsphinx_conversion: str | None = None


@dataclass(frozen=True)
class Sounds:
    """The sound of a conversion and of its source, each float32 (n,).

    Attributes:
        source: The source recording.
        vocoder: The source resynthesised by the vocoder alone.
        conversion: The conversion.
    """

    source: np.ndarray
    vocoder: np.ndarray
    conversion: np.ndarray


@dataclass
class ScoredConversion:
    """A conversion and its scores.

    Attributes:
        pair: The pair that was converted.
        sounds_in_memory: The sound; None where it is in files only.
        scores: The scores.
        transcripts: The transcripts.
    """

    pair: Pair
    sounds_in_memory: Sounds | None
    scores: Scores = field(default_factory=Scores)
    transcripts: Transcripts = field(default_factory=Transcripts)

    @property
    def sounds(self) -> Sounds:
        """The sound of the conversion and of its source.

        Raises:
            ValueError: The sound is in files only.
        """
        if self.sounds_in_memory is None:
            raise ValueError("the sound of this conversion is in files only")
        return self.sounds_in_memory


@dataclass(frozen=True)
class Verification:
    """Similarities of pairs of real recordings, and the threshold that separates them.

    Attributes:
        same: Similarities of pairs of one speaker.
        different: Similarities of pairs of two speakers.
        threshold: Similarity with equal error rates; a conversion at or above it is accepted.
        error_rate: Equal error rate, the share of either kind on the wrong side of the threshold.
    """

    same: list[float]
    different: list[float]
    threshold: float
    error_rate: float


@dataclass(frozen=True)
class SpeakerProbe:
    """How well a linear classifier recognises the speaker from single codes.

    Attributes:
        accuracy: Share of an utterance's codes that are classified correctly, over utterances.
        chance: Share of the most frequent speaker.
        n_speakers: Number of speakers.
    """

    accuracy: Figure
    chance: float
    n_speakers: int


@dataclass(frozen=True)
class ConditionResults:
    """Conversions of some sources under one condition, see `robustness`.

    Attributes:
        condition: Name of the condition, a key of `robustness.CONDITIONS` or `robustness.CLEAN`.
        conversions: The conversions by the number of their pair.
        refused: One sentence for each source that could not be converted.
    """

    condition: str
    conversions: dict[int, ScoredConversion] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Evaluation:
    """All results of an evaluation.

    Attributes:
        conversions: The conversions, one a pair.
        verification: Similarities of real recordings; None without pairs of both kinds.
        probe: Speaker information in the codes; None where it was not measured.
        left_out: Sentences that name scores which were left out, and the reason.
        conditions: Results for clean sources, then for each worse condition.
    """

    conversions: list[ScoredConversion]
    verification: Verification | None
    probe: SpeakerProbe | None
    left_out: list[str]
    conditions: list[ConditionResults] = field(default_factory=list)

    def groups(self) -> dict[str, dict[str, list[ScoredConversion]]]:
        """Group the conversions.

        Returns:
            Conversions by kind of group, such as "gender", and by group, such as "same gender". The
            kind "" has one group, "all pairs".
        """
        groups = {"": {"all pairs": self.conversions}}
        for conversion in self.conversions:
            for kind, name in conversion.pair.groups.items():
                groups.setdefault(kind, {}).setdefault(name, []).append(conversion)
        return groups


def figures(
    conversions: Sequence[ScoredConversion], names: Sequence[str] = SCORES
) -> dict[str, Figure]:
    """Average scores.

    Args:
        conversions: The conversions.
        names: Names of fields of `Scores`.

    Returns:
        Means with intervals by field name, of all scores that were measured.
    """
    found = {}
    for name in names:
        scores = [getattr(conversion.scores, name) for conversion in conversions]
        rates = [
            score if isinstance(score, Rate) else Rate(score, 1.0)
            for score in scores
            if score is not None
        ]
        bases = [rate.base for rate in rates]
        if sum(bases) > 0:
            found[name] = metrics.figure([rate.value for rate in rates], bases)
    return found


def reported(found: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the keys of a mapping from fields of `Scores` to names in the report."""
    return {report_key(name): value for name, value in found.items()}
