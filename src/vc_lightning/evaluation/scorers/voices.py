"""Score the voice of conversions by the embeddings of any voice judge, and verify real pairs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.scores import Scores
from vc_lightning.evaluation.statistics import Verification, equal_error
from vc_lightning.models.speaker_encoder import similarity

EVERYWHERE = "all pairs"  # key of the verification on all domains together


def score(
    judge: str,
    scores: Scores,
    pair: Pair,
    embeddings: Mapping[Path, np.ndarray],
    conversion: np.ndarray | None,
) -> None:
    """Set the similarities; a conversion without speech counts as not nearer to the target.

    Args:
        judge: Section of the scores, "campplus" or "ge2e".
        scores: The scores to set.
        pair: The pair.
        embeddings: Embeddings of its recordings.
        conversion: Embedding of the conversion; None where no speech was found in it.
    """
    target = embeddings[pair.target_reference]
    scores[f"{judge}/before"] = similarity(embeddings[pair.source], target)
    if conversion is None:
        scores[f"{judge}/nearer"] = 0.0
        return
    to_target = similarity(conversion, target)
    to_source = similarity(conversion, embeddings[pair.source_reference])
    scores[f"{judge}/to_target"], scores[f"{judge}/to_source"] = to_target, to_source
    scores[f"{judge}/nearer"] = float(to_target > to_source)


def score_acceptance(
    judge: str, scores: Scores, pair: Pair, verified: Mapping[str, Verification]
) -> None:
    """Set whether a conversion is accepted as the target speaker.

    Args:
        judge: Section of the scores.
        scores: The scores to set.
        pair: The pair.
        verified: Results of `verify`; the threshold is that of the pair's domain, where it has one.
    """
    if f"{judge}/nearer" not in scores:
        return
    threshold = verified.get(pair.domain, verified[EVERYWHERE]).threshold
    to_target = scores.value(f"{judge}/to_target")
    scores[f"{judge}/accepted"] = float(to_target is not None and to_target >= threshold)


def verify(pairs: Sequence[Pair], embeddings: Mapping[Path, np.ndarray]) -> dict[str, Verification]:
    """Find the verification thresholds: compare sources and voices with reference recordings.

    Only recordings of one domain are compared: speakers of two domains differ by microphone too.

    Returns:
        The similarities and their threshold by domain and for `EVERYWHERE`, of those that have
        pairs of one and of two speakers.
    """
    compared: dict[str, dict[Path, str]] = {}  # domain -> recording -> speaker
    references: dict[str, dict[Path, str]] = {}
    for pair in pairs:
        own = compared.setdefault(pair.domain, {})
        others = references.setdefault(pair.domain, {})
        own |= dict.fromkeys(pair.voice, pair.target_speaker)
        own[pair.source] = pair.source_speaker
        others[pair.source_reference] = pair.source_speaker
        others[pair.target_reference] = pair.target_speaker
    scores: dict[str, dict[bool, list[float]]] = {EVERYWHERE: {True: [], False: []}}
    for domain in compared:
        scores.setdefault(domain or EVERYWHERE, {True: [], False: []})
        for path, speaker in compared[domain].items():
            for reference, other in references[domain].items():
                if path != reference:
                    found = similarity(embeddings[path], embeddings[reference])
                    for name in {EVERYWHERE, domain or EVERYWHERE}:
                        scores[name][speaker == other].append(found)
    return {
        name: Verification(both[True], both[False], *equal_error(both[True], both[False]))
        for name, both in scores.items()
        if both[True] and both[False]
    }
