"""Combine the results of parts to a whole evaluation, with scores that depend on all pairs."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vc_lightning.evaluation import domains, metrics, scoring
from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.partial_results import PartialResults
from vc_lightning.evaluation.results import Evaluation, SpeakerProbe, Verification
from vc_lightning.models.speaker_encoder import similarity


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
    verification = verify_real_pairs(pairs, whole.embeddings)
    if verification is None:
        sentences.append("acceptance: real pairs of one speaker and of two speakers are needed")
    else:
        tested = [c for results in whole.conditions for c in results.conversions.values()]
        for conversion in [*conversions, *tested]:
            scoring.score_acceptance(conversion.scores, verification.threshold)
    probe = None
    if "codes" in aspects:
        probe = probe_codes(pairs, whole.codes)
        if probe is None:
            sentences.append("codes: two speakers with two recordings each are needed")
    return Evaluation(conversions, verification, probe, sentences, whole.conditions)


def verify_real_pairs(
    pairs: Sequence[Pair], embeddings: Mapping[Path, np.ndarray]
) -> Verification | None:
    """Find the verification threshold: compare sources and voices with reference recordings.

    Only recordings of one domain are compared: speakers of two domains differ by microphone too.

    Args:
        pairs: The pairs.
        embeddings: Embeddings (dim_emb,) of their recordings.

    Returns:
        The similarities and their threshold; None without pairs of one and of two speakers.
    """
    compared: dict[Path, tuple] = {}  # recording -> domain, speaker
    references: dict[Path, tuple] = {}
    for pair in pairs:
        domain = pair.groups.get(domains.GROUP)
        source, target = (domain, pair.source_speaker), (domain, pair.target_speaker)
        references |= {pair.source_reference: source, pair.target_reference: target}
        compared |= dict.fromkeys(pair.voice, target)
        compared[pair.source] = source
    scores: dict[bool, list[float]] = {True: [], False: []}
    for path, speaker in compared.items():
        for reference, other in references.items():
            if path != reference and speaker[0] == other[0]:
                score = similarity(embeddings[path], embeddings[reference])
                scores[speaker == other].append(score)
    same, different = scores[True], scores[False]
    if not same or not different:
        return None
    return Verification(same, different, *metrics.equal_error(same, different))


def probe_codes(pairs: Sequence[Pair], codes: Mapping[Path, np.ndarray]) -> SpeakerProbe | None:
    """Measure how well speakers are recognised from codes with `metrics.speaker_probe`.

    Args:
        pairs: The pairs.
        codes: Codes of their recordings.

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
    used = {path: name for path, name in speakers.items() if counts[name] > 1 and path in codes}
    names = list(used.values())
    if len(set(names)) < 2:
        return None
    accuracy, chance = metrics.speaker_probe([codes[path] for path in used], names)
    return SpeakerProbe(accuracy, chance, len(set(names)))
