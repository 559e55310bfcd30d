"""Measure how much of the speaker is left in the codes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vc_lightning.evaluation.statistics import Figure, figure

N_FOLDS = 3  # of the cross-validation
MAX_ITERATIONS = 1_000  # of the logistic regression


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


def speaker_probe(codes: Sequence[np.ndarray], speakers: Sequence[str]) -> SpeakerProbe:
    """Measure how well a linear classifier recognises the speaker from single codes.

    Each utterance is classified by a model that was trained without it (cross-validation). High
    accuracy means that the codes leak the source voice.

    Args:
        codes: Codes (n_channels, T/freq) of each utterance.
        speakers: Speaker of each utterance: at least two, each at least twice.
    """
    frames = np.concatenate([np.asarray(code).T for code in codes])  # (all codes, n_channels)
    utterances = np.repeat(np.arange(len(codes)), [code.shape[1] for code in codes])
    labels = np.asarray(speakers)[utterances]
    counts = np.unique(list(speakers), return_counts=True)[1]  # utterances of each speaker
    folds = StratifiedGroupKFold(min(N_FOLDS, int(counts.min())), shuffle=True, random_state=0)
    is_correct = np.zeros(len(frames), dtype=bool)
    for train, test in folds.split(frames, labels, utterances):
        classifier = LogisticRegression(max_iter=MAX_ITERATIONS, class_weight="balanced")
        probe = make_pipeline(StandardScaler(), classifier)
        probe.fit(frames[train], labels[train])
        is_correct[test] = probe.predict(frames[test]) == labels[test]
    shares = [is_correct[utterances == index].mean() for index in range(len(codes))]
    return SpeakerProbe(figure(shares), float(counts.max() / counts.sum()), len(counts))
