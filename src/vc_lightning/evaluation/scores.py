"""Scores of one conversion, what they mean, and their means over conversions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np

from vc_lightning.evaluation import statistics
from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.statistics import Figure

SECTIONS = {  # of the report; outside judges, which had no part in the network, come first
    "campplus": "Voice: CAM++, cosine on recordings left out of the voice (outside judge)",
    "distillmos": "Naturalness: DistillMOS, 1 to 5 (outside judge)",
    "words": (
        "Words: Whisper base against the known text, or else its own transcript of the source "
        "(its encoder listens in converters with a recogniser)"
    ),
    "pocketsphinx": (
        "Words: PocketSphinx, English only (outside judge; subtract its errors on the sources)"
    ),
    "phonemes": (
        "Words: phonemes by hama against those of the source, English only (outside judge)"
    ),
    "prosody": "Prosody",
    "distortion": "Distance to the target's recording of the same text",
    "ge2e": "Voice: GE2E, cosine on recordings left out of the voice (conditions the network)",
    "tiny_en": (
        "Words: Whisper tiny.en against its own transcript of the source (taught the network)"
    ),
    "dnsmos": "Naturalness: DNSMOS, 1 to 5 (the recipe was chosen on it)",
    "speed": "Speed",
}
TITLES = {  # ↑ higher is better, ↓ lower is better
    "campplus/to_target": "similarity to the target ↑",
    "campplus/to_source": "similarity to the source's speaker ↓",
    "campplus/before": "similarity of the source to the target",
    "campplus/nearer": "share nearer to the target than to the source's speaker ↑",
    "campplus/accepted": "share accepted as the target ↑",
    "distillmos/recording": "DistillMOS of the recordings",
    "distillmos/vocoder": "DistillMOS, vocoder alone ↑",
    "distillmos/conversion": "DistillMOS of the conversions ↑",
    "words/source_character_errors": "character error rate on the sources",
    "words/vocoder_character_errors": "character error rate, vocoder alone ↓",
    "words/character_errors": "character error rate ↓",
    "words/added_character_errors": "character error rate less that on the sources ↓",
    "words/word_errors": "word error rate ↓",
    "pocketsphinx/source": "character error rate of PocketSphinx on the sources",
    "pocketsphinx/conversion": "character error rate of PocketSphinx on the conversions ↓",
    "phonemes/errors": "phoneme error rate ↓",
    "prosody/correlation": "correlation of log-F0 with the source ↑",
    "prosody/voiced_agreement": "share of frames voiced as in the source ↑",
    "prosody/range_source": "range of F0 in the source, semitones",
    "prosody/range_conversion": "range of F0 in the conversion, semitones",
    "prosody/range_target": "range of F0 in the target, semitones",
    "prosody/distance_before": "median F0, source to target, semitones",
    "prosody/distance": "median F0, conversion to target, semitones ↓",
    "distortion/before": "mel-cepstral distortion, source to target, dB",
    "distortion/conversion": "mel-cepstral distortion, conversion to target, dB ↓",
    "ge2e/to_target": "similarity to the target ↑",
    "ge2e/to_source": "similarity to the source's speaker ↓",
    "ge2e/before": "similarity of the source to the target",
    "ge2e/nearer": "share nearer to the target than to the source's speaker ↑",
    "ge2e/accepted": "share accepted as the target ↑",
    "ge2e/speech": "share in which speech is found ↑",
    "tiny_en/vocoder_character_errors": "character error rate, vocoder alone ↓",
    "tiny_en/character_errors": "character error rate ↓",
    "tiny_en/word_errors": "word error rate ↓",
    "dnsmos/recording": "DNSMOS of the recordings",
    "dnsmos/vocoder": "DNSMOS, vocoder alone ↑",
    "dnsmos/conversion": "DNSMOS of the conversions ↑",
    "speed/speaker_encoder": "speaker encoder, s per second of speech",
    "speed/mel": "mel, s per second of speech",
    "speed/pitch": "pitch, s per second of speech",
    "speed/autovc": "AutoVC, s per second of speech",
    "speed/vocoder": "vocoder, s per second of speech",
    "speed/conversion": "conversion as a whole, s per second of speech ↓",
}
VOICE_JUDGES = ("campplus", "ge2e")


Heard = TypeVar("Heard")  # what a recogniser returns: text, or a list of phonemes


class Rate(NamedTuple):
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


class Scores(dict[str, float | Rate]):
    """Scores of one conversion by their names, keys of `TITLES`; only what was measured.

    The part of a name before the slash is the section of the report.
    """

    def __setitem__(self, name: str, score: float | Rate | None) -> None:
        """Set a score; None, which could not be measured, is left out."""
        if name not in TITLES:
            raise KeyError(f"{name} is not a score; scores are {', '.join(TITLES)}")
        if score is None:
            self.pop(name, None)
        else:
            super().__setitem__(name, score)

    @property
    def has_speech(self) -> bool:
        """Whether speech was found in the conversion; True if that was not measured."""
        return self.get("ge2e/speech") != 0

    def value(self, name: str) -> float | None:
        """Return a score as a number, also a rate; None where it was not measured."""
        score = self.get(name)
        return score.value if isinstance(score, Rate) else score

    def margin(self, judge: str) -> float | None:
        """Return a voice judge's similarity to the target less that to the source's speaker."""
        to_target, to_source = self.value(f"{judge}/to_target"), self.value(f"{judge}/to_source")
        return None if to_target is None or to_source is None else to_target - to_source

    def numbers(self) -> dict[str, float]:
        """Return all scores as numbers, in the order of `TITLES`."""
        found = {name: self.value(name) for name in TITLES}
        return {name: value for name, value in found.items() if value is not None}

    def bases(self) -> dict[str, float]:
        """Return the bases of all rates."""
        return {name: score.base for name, score in self.items() if isinstance(score, Rate)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Scores":
        """Read scores from a file, in which a rate is a list of amount and base."""
        return cls({k: Rate(*v) if isinstance(v, list) else v for k, v in content.items()})


@dataclass(frozen=True)
class Sounds:
    """The sound of a conversion and of its source, each float32 (n,).

    Attributes:
        source: The source recording.
        conversion: The conversion.
        vocoder: The source resynthesised by the vocoder alone; None where that is not scored.
    """

    source: np.ndarray
    conversion: np.ndarray
    vocoder: np.ndarray | None = None

    def named(self) -> dict[str, np.ndarray]:
        """Return the sounds by their names."""
        found = {"source": self.source, "vocoder": self.vocoder, "conversion": self.conversion}
        return {name: wav for name, wav in found.items() if wav is not None}


@dataclass
class ScoredConversion:
    """A conversion and its scores.

    Attributes:
        pair: The pair that was converted.
        sounds_in_memory: The sound; None where it is in files only.
        scores: The scores.
        transcripts: Transcripts as plain text, such as "words/source", by recogniser and sound.
    """

    pair: Pair
    sounds_in_memory: Sounds | None
    scores: Scores = field(default_factory=Scores)
    transcripts: dict[str, str] = field(default_factory=dict)

    @property
    def sounds(self) -> Sounds:
        """The sound of the conversion and of its source.

        Raises:
            ValueError: The sound is in files only.
        """
        if self.sounds_in_memory is None:
            raise ValueError("the sound of this conversion is in files only")
        return self.sounds_in_memory

    def heard(self, recognise: Callable[..., Heard], *arguments: object) -> Heard | str:
        """Let a recogniser hear the conversion.

        Args:
            recognise: Transcribes a recording (n,).
            arguments: Its other arguments.

        Returns:
            What it hears; "" without speech, in which recognisers would make up words.
        """
        return recognise(self.sounds.conversion, *arguments) if self.scores.has_speech else ""


def figures(
    conversions: Sequence[ScoredConversion], names: Sequence[str] = tuple(TITLES)
) -> dict[str, Figure]:
    """Average scores.

    Returns:
        Means with intervals by name, of all scores that were measured.
    """
    found = {}
    for name in names:
        scores = [c.scores[name] for c in conversions if name in c.scores]
        rates = [score if isinstance(score, Rate) else Rate(score, 1.0) for score in scores]
        bases = [rate.base for rate in rates]
        if sum(bases) > 0:
            found[name] = statistics.figure([rate.value for rate in rates], bases)
    return found
