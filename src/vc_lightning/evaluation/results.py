"""What an evaluation has found: of each conversion, of groups of them and of real pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vc_lightning.evaluation import metrics
from vc_lightning.evaluation.metrics import Figure
from vc_lightning.evaluation.pairs import Pair

TITLES = {  # ↑ the more, ↓ the less the better
    "similarity/to_target": "similarity to the target ↑",
    "similarity/to_source": "similarity to the source's speaker ↓",
    "similarity/before": "the source recording's to the target",
    "similarity/nearer": "share nearer to the target than to the source's speaker ↑",
    "similarity/accepted": "share accepted as the target ↑",
    "similarity/speech": "share in which speech is found ↑",
    "words/word_errors": "word error rate ↓",
    "words/character_errors": "character error rate ↓",
    "words/vocoder_word_errors": "word error rate, vocoder alone ↓",
    "words/vocoder_character_errors": "character error rate, vocoder alone ↓",
    "pocketsphinx/source": "character error rate of PocketSphinx on the sources",
    "pocketsphinx/conversion": "character error rate of PocketSphinx on the conversions ↓",
    "naturalness/recording": "DNSMOS of the recordings",
    "naturalness/vocoder": "DNSMOS, vocoder alone ↑",
    "naturalness/conversion": "DNSMOS of the conversions ↑",
    "prosody/correlation": "correlation of log-F0 with the source ↑",
    "prosody/voiced_agreement": "share of frames voiced as in the source ↑",
    "prosody/range_source": "range of F0 in the source, semitones",
    "prosody/range_conversion": "range of F0 in the conversion, semitones",
    "prosody/range_target": "range of F0 in the target, semitones",
    "prosody/distance_before": "median F0, source to target, semitones",
    "prosody/distance": "median F0, conversion to target, semitones ↓",
    "distortion/before": "mel-cepstral distortion, source to target, dB",
    "distortion/conversion": "mel-cepstral distortion, conversion to target, dB ↓",
    "speed/speaker_encoder": "speaker encoder, s per second of speech",
    "speed/mel": "mel, s per second of speech",
    "speed/pitch": "pitch, s per second of speech",
    "speed/autovc": "AutoVC, s per second of speech",
    "speed/vocoder": "vocoder, s per second of speech",
    "speed/conversion": "conversion as a whole, s per second of speech ↓",
}


@dataclass
class Outcome:
    """A conversion and what was found of it.

    Attributes:
        wav, source_wav, copy: float32 (n,): the conversion, what it was made of, and the latter
            through the vocoder alone.
        values: figures by the keys of `TITLES`; `weights`, of those that do not count as 1.
        words: what the recogniser heard, by name.
    """

    pair: Pair
    source_wav: np.ndarray
    copy: np.ndarray
    wav: np.ndarray
    values: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)

    def note(self, key: str, value: float | None, weight: float = 1.0) -> None:
        """Keeps a figure, unless it could not be measured."""
        if value is not None:
            self.values[key] = value
            self.weights[key] = weight


@dataclass(frozen=True)
class Ruler:
    """Similarities of single recordings of one speaker and of two, and what they tell apart.

    Attributes: threshold, above which a recording is taken for the speaker's; error_rate, of
        either kind at it.
    """

    same: list[float]
    different: list[float]
    threshold: float
    error_rate: float


@dataclass(frozen=True)
class Trial:
    """What became of some sources under one condition, see `robustness`.

    Attributes:
        outcomes: the conversions, each beside the place of its pair among all of them.
        refused: sentences on sources that could not be converted.
    """

    condition: str
    outcomes: list[tuple[int, Outcome]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """All of an evaluation.

    Attributes:
        left_out: sentences on what was not judged, and why.
        codes: how often codes betray the speaker, how often chance does, and of how many speakers.
        trials: of the sources under worse conditions, the clean one first.
    """

    outcomes: list[Outcome]
    ruler: Ruler | None
    codes: tuple[Figure, float, int] | None
    left_out: list[str]
    trials: list[Trial] = field(default_factory=list)

    def groups(self) -> dict[str, dict[str, list[Outcome]]]:
        """Outcomes by kind of group, such as "gender", and by its name, such as "same gender"."""
        groups = {"": {"all pairs": self.outcomes}}
        for outcome in self.outcomes:
            for kind, name in outcome.pair.groups.items():
                groups.setdefault(kind, {}).setdefault(name, []).append(outcome)
        return groups


def figures(outcomes: Sequence[Outcome]) -> dict[str, Figure]:
    """Means with intervals of whatever was measured, by the keys of `TITLES`."""
    found = {}
    for key in TITLES:
        measured = [outcome for outcome in outcomes if key in outcome.values]
        values = [outcome.values[key] for outcome in measured]
        figure = metrics.figure(values, [outcome.weights[key] for outcome in measured])
        if figure is not None:
            found[key] = figure
    return found
