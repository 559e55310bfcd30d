"""Checks of a data set by the speaker embeddings of its utterances."""

from collections.abc import Iterator

import numpy as np

from vc_lightning.data.audit.table import SERIOUS, WARNING, Finding, UtteranceTable, listed, number

# Thresholds on cosines of GE2E embeddings, measured on 2 931 utterances of 68 speakers in five
# languages:
MIN_UTTERANCES = 4  # of a speaker; with fewer, the mean of the others is not reliable
# To the mean of the speaker's other utterances: 1 utterance with the right label lies below, and
# 55 % of those with a wrong one.
STRANGER = 0.6
# Cosine to another speaker minus that to the own one: 6 utterances with the right label lie above,
# and 95 to 99 % of those with exchanged labels.
NEARER = 0.1
# Between mean embeddings: two chapters of one reader have 0.96 to 0.99; of 45 pairs of actors, one
# has 0.95.
ONE_VOICE = 0.94
ALIKE = 0.75  # median between utterances; one speaker has 0.88, different speakers 0.58
COPY = 0.9995  # two recordings of one prompt have at most 0.997
COPY_NEIGHBOURS = 32  # copies are close when sorted by length and cosine to the mean voice
MAX_COMPARED = 2_000  # speakers in one matrix product
ROWS_AT_ONCE = 4_096  # utterances in one matrix product


def voice_findings(data: UtteranceTable, embeddings: np.ndarray) -> Iterator[Finding]:
    """Run the checks.

    Args:
        data: The utterances.
        embeddings: Their speaker embeddings (n, dim_emb).
    """
    for check in (_near_copies, _strangers, _one_voice, _flat_folder):
        yield from check(data, embeddings)


def _near_copies(data: UtteranceTable, embeddings: np.ndarray) -> Iterator[Finding]:
    """Find utterances of equal length that sound the same, though their bytes differ."""
    order = np.lexsort((embeddings @ embeddings.mean(axis=0), data.n_frames))
    pairs: list[tuple[int, int]] = []
    for distance in range(1, min(COPY_NEIGHBOURS, len(order) - 1) + 1):
        rows = np.stack([order[:-distance], order[distance:]])
        ones, others = rows[:, data.n_frames[rows[0]] == data.n_frames[rows[1]]]
        same = np.einsum("ij,ij->i", embeddings[ones], embeddings[others]) > COPY
        pairs += zip(ones[same].tolist(), others[same].tolist(), strict=True)
    content = [utterance.segment.content for utterance in data.utterances]
    pairs = [(one, other) for one, other in pairs if content[one] != content[other]]
    if pairs:
        names = listed([f"{data.path(one)} ≈ {data.path(other)}" for one, other in pairs[:4]])
        yield Finding(
            WARNING,
            f"{number(len(pairs), 'pair')} of utterances that have the same length and sound the "
            f"same, though their bytes differ ({names})",
            "keep one of each: data.exclude=['*_mic2*'] leaves out second microphones",
        )


def _strangers(data: UtteranceTable, embeddings: np.ndarray) -> Iterator[Finding]:
    """Find utterances that do not sound like their speakers."""
    sums, known = _known_voices(data, embeddings)
    means = _unit(sums[known])
    found = []  # cosine to the own speaker, and text that names the utterance
    checked = np.flatnonzero(np.bincount(data.speaker)[data.speaker] >= MIN_UTTERANCES)
    for rows in np.split(checked, range(ROWS_AT_ONCE, len(checked), ROWS_AT_ONCE)):
        if not len(rows):
            return
        voices, speaker = embeddings[rows], data.speaker[rows]
        own = (voices * _unit(sums[speaker] - voices)).sum(axis=1)
        others = np.where(speaker[:, None] == known, -1, voices @ means.T)
        is_nearer = others.max(axis=1) > own + NEARER
        for i in np.flatnonzero(is_nearer | (own < STRANGER)):
            like = f", rather like {data.names[known[others[i].argmax()]]}" if is_nearer[i] else ""
            found.append((own[i], f"{data.path(rows[i])} ({own[i]:.2f}{like})"))
    if found:
        yield Finding(
            WARNING,
            f"{number(len(found), 'utterance')} unlike the others of the same speaker, by cosine: "
            f"{listed([text for _, text in sorted(found)])}",
            "listen for a wrong label, a second voice or mere noise; correct the labels or leave "
            "them out (data.exclude)",
        )


def _one_voice(data: UtteranceTable, embeddings: np.ndarray) -> Iterator[Finding]:
    """Find pairs of speakers whose mean embeddings are nearly equal."""
    sums, known = _known_voices(data, embeddings)
    means = _unit(sums[known])
    pairs = np.argwhere(np.triu(means @ means.T, 1) > ONE_VOICE)
    if len(pairs):
        names = [" = ".join(data.names[known[i]] for i in sorted(pair)) for pair in pairs]
        yield Finding(
            WARNING,
            f"{number(len(pairs), 'pair')} of speakers that sound like one: {listed(names)}",
            "listen, and give one person one name, above all across training and validation",
        )


def _flat_folder(data: UtteranceTable, embeddings: np.ndarray) -> Iterator[Finding]:
    """Find one speaker's files in a flat folder, where each counts as a speaker."""
    files = {utterance.path for utterance in data.utterances}
    if len({path.parent for path in files}) > 1 or not 3 < len(files) == len(data.names):
        return
    voices = embeddings[data.is_first][:MAX_COMPARED]
    cosines = (voices @ voices.T)[np.triu_indices(len(voices), 1)]
    if np.median(cosines) > ALIKE:
        yield Finding(
            SERIOUS,
            f"the {len(files)} files of the folder count as one speaker each, but sound alike",
            "give each speaker a folder, or name the speakers in a table (data.manifest)",
        )


def _known_voices(data: UtteranceTable, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sums (n_speakers, E) of embeddings, and the speakers with enough utterances."""
    rows = np.argsort(data.speaker, kind="stable")
    counts = np.bincount(data.speaker)
    sums = np.add.reduceat(embeddings[rows], np.cumsum(counts) - counts)
    most = np.argsort(-counts, kind="stable")[:MAX_COMPARED]
    return sums, most[counts[most] >= MIN_UTTERANCES]


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors (n, size) to length 1, except zeros."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
