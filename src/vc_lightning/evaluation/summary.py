"""All results of an evaluation, with the scores that depend on all of its pairs."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.report.part_files import PartialResults
from vc_lightning.evaluation.robustness import ConditionResults
from vc_lightning.evaluation.scorers import codes, voices
from vc_lightning.evaluation.scorers.codes import SpeakerProbe
from vc_lightning.evaluation.scores import VOICE_JUDGES, ScoredConversion
from vc_lightning.evaluation.statistics import Verification


@dataclass(frozen=True)
class Evaluation:
    """All results of an evaluation.

    Attributes:
        conversions: The conversions, one a pair.
        verified: By voice judge and by domain, the similarities of real recordings; only where
            there are pairs of both kinds.
        probe: Speaker information in the codes; None where it was not measured.
        left_out: Sentences that name scores which were left out, and the reason.
        conditions: Results for clean sources, then for each worse condition.
    """

    conversions: list[ScoredConversion]
    verified: dict[str, dict[str, Verification]]
    probe: SpeakerProbe | None
    left_out: list[str]
    conditions: list[ConditionResults] = field(default_factory=list)

    def groups(self) -> dict[str, dict[str, list[ScoredConversion]]]:
        """Group the conversions.

        Returns:
            Conversions by kind of group, such as "gender", and by group, such as "same gender". The
            kind "" has one group, "all pairs".
        """
        groups = {"": {voices.EVERYWHERE: self.conversions}}
        for conversion in self.conversions:
            for kind, name in conversion.pair.groups.items():
                groups.setdefault(kind, {}).setdefault(name, []).append(conversion)
        return groups


def combine(
    pairs: Sequence[Pair], parts: Iterable[PartialResults], aspects: Sequence[str]
) -> Evaluation:
    """Combine the results of parts to a whole evaluation.

    Args:
        pairs: All pairs.
        parts: Results of the parts, together of all pairs.
        aspects: Some of `evaluator.ASPECTS`, which were scored besides the voice.
    """
    whole = PartialResults.merged(parts)
    conversions = [whole.conversions[index] for index in range(len(pairs))]
    sentences = [f"{reason} (pairs: {n})" if n else reason for reason, n in whole.left_out.items()]
    tested = [c for results in whole.conditions for c in results.conversions.values()]
    verified = {}
    for judge in VOICE_JUDGES:
        if embeddings := whole.embeddings.get(judge):
            verified[judge] = voices.verify(pairs, embeddings)
            if verified[judge]:
                for one in [*conversions, *tested]:
                    voices.score_acceptance(judge, one.scores, one.pair, verified[judge])
    if not any(verified.values()):
        sentences.append("acceptance: real pairs of one speaker and of two speakers are needed")
    probe = None
    if "codes" in aspects:
        probe = probe_codes(pairs, whole.codes)
        if probe is None:
            sentences.append("codes: two speakers with two recordings each are needed")
    return Evaluation(conversions, verified, probe, sentences, whole.conditions)


def probe_codes(pairs: Sequence[Pair], found: Mapping[Path, np.ndarray]) -> SpeakerProbe | None:
    """Measure how well speakers are recognised from codes with `codes.speaker_probe`.

    Returns:
        The accuracy; None with fewer than two speakers with two recordings each.
    """
    speakers: dict[Path, str] = {}
    for pair in pairs:
        sources = dict.fromkeys([pair.source, pair.source_reference], pair.source_speaker)
        speakers |= sources | dict.fromkeys(
            [*pair.voice, pair.target_reference], pair.target_speaker
        )
    counts = Counter(speakers.values())
    used = {path: name for path, name in speakers.items() if counts[name] > 1 and path in found}
    names = list(used.values())
    if len(set(names)) < 2:
        return None
    return codes.speaker_probe([found[path] for path in used], names)
