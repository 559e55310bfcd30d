"""Metrics of an evaluation: pure functions of scores, pitch contours, mels and codes."""

from collections.abc import Sequence
from dataclasses import dataclass

import librosa
import numpy as np
from scipy import fft, stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vc_lightning.audio.mel import DB_PER_UNIT
from vc_lightning.audio.pitch import MIN_VOICED_FRAMES

CONFIDENCE = 0.95
N_RESAMPLES = 2_000
MAX_RESAMPLED = 1_000_000  # resampled values in memory at a time
SEMITONES_OF_AN_OCTAVE = 12
N_CEPSTRA = 24  # as usual at 16 kHz; without the 0th, which is the level
N_FOLDS = 3  # of the cross-validation
MAX_ITERATIONS = 1_000  # of the logistic regression


@dataclass(frozen=True)
class Figure:
    """A mean with its 95 % bootstrap interval.

    Attributes:
        mean: The mean.
        low: Lower end of the interval; None for a single value.
        high: Upper end of the interval; None for a single value.
        n: Number of values.
    """

    mean: float
    low: float | None
    high: float | None
    n: int


def figure(values: Sequence[float], weights: Sequence[float] | None = None) -> Figure:
    """Compute a weighted mean with its 95 % percentile bootstrap interval (Efron 1979).

    Args:
        values: The values.
        weights: Weight of each value, such as the number of words of an error rate; None for equal
            weights.

    Raises:
        ValueError: There are no values, or all weights are 0.
    """
    bases = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
    if not bases.sum() > 0:
        raise ValueError("there is nothing to average")
    amounts = np.asarray(values, dtype=float) * bases
    mean = float(amounts.sum() / bases.sum())
    if len(values) < 2:
        return Figure(mean, None, None, len(values))
    found = stats.bootstrap(
        (amounts, bases),
        lambda amounts, bases, axis: amounts.sum(axis) / bases.sum(axis),
        paired=True,
        n_resamples=N_RESAMPLES,
        batch=max(1, MAX_RESAMPLED // len(values)),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    interval = found.confidence_interval
    return Figure(mean, float(interval.low), float(interval.high), len(values))


def equal_error(same: Sequence[float], different: Sequence[float]) -> tuple[float, float]:
    """Find the threshold at which both error rates of speaker verification are equal.

    Args:
        same: Scores of pairs of one speaker, at least one; higher means more alike.
        different: Scores of pairs of two speakers, at least one.

    Returns:
        The threshold, halfway between two scores, and the mean of both error rates there.
    """
    labels = np.repeat([1, 0], [len(same), len(different)])
    curve = roc_curve(labels, np.concatenate([same, different]), drop_intermediate=False)
    accepted, recognised, thresholds = (values[::-1] for values in curve)  # ascending
    rejected = 1 - recognised
    differences = np.abs(rejected - accepted)[1:-1]  # without thresholds that accept all or none
    best = 1 + int(np.argmin(differences)) if len(differences) else 0  # 0: all scores are equal
    middle = thresholds[max(best - 1, 0) : best + 1].mean()
    return float(middle), float((rejected[best] + accepted[best]) / 2)


def f0_correlation(f0: np.ndarray, other: np.ndarray) -> float | None:
    """Compute the Pearson correlation of log-F0 in frames where both contours are voiced.

    Args:
        f0: Contour (T,) in Hz, 0 where unvoiced.
        other: Contour to compare with; the longer one is cut.

    Returns:
        The correlation; None with fewer than `MIN_VOICED_FRAMES` such frames, or a constant F0.
    """
    f0, other = _cut(f0, other)
    voiced = (f0 > 0) & (other > 0)
    if voiced.sum() < MIN_VOICED_FRAMES:
        return None
    logs = np.log(f0[voiced]), np.log(other[voiced])
    if min(np.ptp(log) for log in logs) < 1e-6:
        return None
    return float(np.corrcoef(*logs)[0, 1])


def voiced_agreement(f0: np.ndarray, other: np.ndarray) -> float:
    """Compute the share of frames that are voiced in both F0 contours (T,) or in neither."""
    f0, other = _cut(f0, other)
    return float(np.mean((f0 > 0) == (other > 0)))


def f0_range(f0: np.ndarray) -> float | None:
    """Compute the standard deviation of log-F0 in semitones; see `f0_distance`."""
    voiced = f0[f0 > 0]
    if len(voiced) < MIN_VOICED_FRAMES:
        return None
    return float(SEMITONES_OF_AN_OCTAVE * np.log2(voiced).std())


def f0_distance(f0: np.ndarray, other: np.ndarray) -> float | None:
    """Compute the distance between two median F0s in semitones.

    Args:
        f0: Contour (T,) in Hz, 0 where unvoiced.
        other: Contour to compare with, of any length.

    Returns:
        The distance; None if a contour has fewer than `MIN_VOICED_FRAMES` voiced frames.
    """
    voiced = [contour[contour > 0] for contour in (f0, other)]
    if min(len(contour) for contour in voiced) < MIN_VOICED_FRAMES:
        return None
    medians = [np.median(contour) for contour in voiced]
    return float(SEMITONES_OF_AN_OCTAVE * abs(np.log2(medians[0] / medians[1])))


def _cut(f0: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut two contours, which may differ by a frame, to the length of the shorter one."""
    length = min(len(f0), len(other))
    return f0[:length], other[:length]


def mel_cepstral_distortion(mel: np.ndarray, other: np.ndarray) -> float:
    """Compute the mel-cepstral distortion in dB of two recordings of one text (Kubichek 1993).

    Frames are aligned by dynamic time warping. Of the cepstra, c_1 … c_24 are compared, not the
    level c_0.

    Args:
        mel: Mel (n_mels, T) in 0…1 of `MelSpectrogram`.
        other: Mel (n_mels, T') to compare with.
    """
    cepstra = [cepstrum(values) for values in (mel, other)]
    _, path = librosa.sequence.dtw(*cepstra, metric="euclidean")
    steps = cepstra[0][:, path[:, 0]] - cepstra[1][:, path[:, 1]]
    distances = np.sqrt(2 * (steps**2).sum(axis=0))  # of each pair of frames
    return float(10 / np.log(10) * distances.mean())


def cepstrum(mel: np.ndarray) -> np.ndarray:
    """Compute c_1 … c_24 (24, T) of a mel: ln|H| = c_0 + Σ c_m cos(mω) on the mel scale.

    Args:
        mel: Mel (n_mels, T) in 0…1.
    """
    log_amplitude = np.asarray(mel, dtype=float) * DB_PER_UNIT * np.log(10) / 20
    return fft.dct(log_amplitude, type=2, axis=0)[1 : N_CEPSTRA + 1] / len(mel)


def speaker_probe(codes: Sequence[np.ndarray], speakers: Sequence[str]) -> tuple[Figure, float]:
    """Measure how well a linear classifier recognises the speaker from single codes.

    Each utterance is classified by a model that was trained without it (cross-validation). High
    accuracy means that the codes leak the source voice.

    Args:
        codes: Codes (n_channels, T/freq) of each utterance.
        speakers: Speaker of each utterance: at least two, each at least twice.

    Returns:
        Share of an utterance's codes that are classified correctly, averaged over the utterances;
        and the chance level, the share of the most frequent speaker.
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
    return figure(shares), float(counts.max() / counts.sum())
