"""Checks of a data set: problems and their remedies."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vc_lightning.data.audit.table import (
    HINT,
    SERIOUS,
    SEVERITIES,
    WARNING,
    Finding,
    UtteranceTable,
    listed,
    number,
)
from vc_lightning.data.audit.voice_checks import voice_findings

MANY = 0.2  # share of the files or utterances above which a problem is not an exception
NOISY_DB = 15.0  # at a smaller signal-to-noise ratio noise masks the softer half of speech
HISSING_DB = 20.0  # at a smaller signal-to-noise ratio noise is audible, but below the speech
CLIPPED_SHARE = 1e-4  # of the samples; one clean peak has a few flat samples, 1e-5 of ten seconds
SILENT_SHARE = 0.3  # with a smaller share of speech, most crops of 2 s are mostly pause
SHORT_SECONDS = 1.0  # the speaker encoder's window is 1.6 s
FEW_SPEAKERS = 20  # as in AutoVC's first experiment, which converts between these speakers only
FEW_MINUTES = 10.0  # half a minute of each of 20 speakers
UNEQUAL = 10.0  # longest speaker's minutes, relative to the median


def findings(data: UtteranceTable, unusable: dict[Path, str], max_seconds: float) -> list[Finding]:
    """Run all checks, and sort the findings by severity, serious ones first.

    Args:
        data: The utterances.
        unusable: Files that were left out, with the reasons.
        max_seconds: Length in seconds above which recordings were cut into segments.
    """
    found = [
        *_files(data, unusable),
        *_lengths(data, max_seconds),
        *_rates(data),
        *_sound(data),
        *_copies(data),
        *_amounts(data),
    ]
    if data.embeddings is not None:
        found += voice_findings(data, data.embeddings)
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def _files(data: UtteranceTable, unusable: dict[Path, str]) -> Iterator[Finding]:
    if not unusable:
        return
    n_files = len(unusable) + int(data.is_first.sum())
    # Count reasons that differ in their numbers or remedies only as one, such as "0.3 s are too
    # short; give …" and "the recording is silent (peak 1e-5)".
    kinds = (re.sub(r"\d[\d.]*", "…", re.split(r" \(|;", why)[0]) for why in unusable.values())
    counted = ", ".join(f"{count} × “{kind}”" for kind, count in Counter(kinds).most_common(4))
    names = listed(["/".join(path.parts[-2:]) for path in unusable])
    yield Finding(
        SERIOUS if len(unusable) > MANY * n_files else WARNING,
        f"{len(unusable)} of {n_files} files are left out: {counted} ({names})",
        "repair or remove them, or name them in data.exclude",
    )


def _lengths(data: UtteranceTable, max_seconds: float) -> Iterator[Finding]:
    long = data.length > max_seconds
    if long.any():
        yield Finding(
            HINT,
            f"{data.recordings(long, data.length)} longer than {max_seconds:g} s, cut at pauses "
            f"into {number(int(long.sum()), 'segment')}",
            "none needed; data.max_seconds sets another length",
        )
    short = np.flatnonzero(data.seconds < SHORT_SECONDS)
    if len(short):
        yield Finding(
            WARNING if len(short) > MANY * len(data.seconds) else HINT,
            f"{number(len(short), 'utterance')} shorter than {SHORT_SECONDS:g} s, too little for a "
            f"reliable speaker embedding ({data.paths(short)})",
            "join them to several seconds, or set data.speaker_embedding=speaker",
        )


def _rates(data: UtteranceTable) -> Iterator[Finding]:
    mel = data.mel
    top = mel["fmax"] or mel["sample_rate"] / 2
    dull = (data.rate > 0) & (data.rate < 2 * top)
    if dull.any():
        low, high = data.rate[dull].min() / 1000, data.rate[dull].max() / 1000
        rates = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        yield Finding(
            WARNING,
            f"{data.recordings(dull, -data.rate)} of {rates} kHz, which hold nothing "
            f"between {low / 2:g} kHz and the mel's {top / 1000:g} kHz: the network learns this "
            "dullness as part of the voice",
            "record again or leave them out (data.exclude); resampling restores nothing",
        )
    counts = Counter(data.rate[data.is_first & (data.rate > 0)].tolist())
    if len(counts) > 1:
        counted = ", ".join(f"{n} of {rate / 1000:g} kHz" for rate, n in counts.most_common(4))
        yield Finding(
            HINT,
            f"the sample rates differ: {counted}",
            f"none needed, all become {mel['sample_rate'] / 1000:g} kHz; but check "
            "whether low rates always belong to the same speakers",
        )


def _sound(data: UtteranceTable) -> Iterator[Finding]:
    noisy = data.snr_db < NOISY_DB
    if noisy.any():
        yield Finding(
            SERIOUS if data.seconds[noisy].sum() > data.seconds.sum() / 2 else WARNING,
            f"{data.recordings(noisy, -data.snr_db)} with more noise than {NOISY_DB:g} dB below "
            "the speech, which becomes part of the voice",
            "denoise the worst or leave them out (data.exclude)",
        )
    hissing = (data.snr_db < HISSING_DB) & ~noisy
    if hissing.any():
        yield Finding(
            HINT,
            f"{data.recordings(hissing, -data.snr_db)} with noise {NOISY_DB:g} to {HISSING_DB:g} "
            "dB below the speech",
            "listen to some, and prefer others as target voices",
        )
    clipped = data.clipped > CLIPPED_SHARE
    if clipped.any():
        yield Finding(
            WARNING,
            f"{data.recordings(clipped, data.clipped)} clipped: more than {CLIPPED_SHARE:.2%} of "
            "the samples lie flat at the peaks",
            "record again at a lower level or leave them out (data.exclude); lowering the level "
            "now does not help",
        )
    silent = data.voiced < SILENT_SHARE
    if silent.any():
        yield Finding(
            WARNING,
            f"{data.recordings(silent, -data.voiced)} with speech in less than {SILENT_SHARE:.0%} "
            "of the time, so that many crops are silence",
            "trim them and cut out long pauses",
        )


def _copies(data: UtteranceTable) -> Iterator[Finding]:
    """Find utterances with the same bytes."""
    groups: dict[tuple[str, int], list[int]] = {}
    for row, utterance in enumerate(data.utterances):
        groups.setdefault((utterance.segment.content, utterance.segment.index), []).append(row)
    leaked, shared, doubled = [], [], []
    for rows in groups.values():
        if len(rows) == 1:
            continue
        if len(set(data.is_val[rows].tolist())) > 1:
            leaked.append(rows)
        elif len(set(data.speaker[rows].tolist())) > 1:
            shared.append(rows)
        else:
            doubled.append(rows)
    for severity, found, harm in (
        (SERIOUS, leaked, "both in training and in validation, which then rewards memorising"),
        (SERIOUS, shared, "under several speakers, only one of which can be right"),
        (WARNING, doubled, "more than once, which counts them repeatedly in every epoch"),
    ):
        if found:
            same = " = ".join(data.path(row) for row in found[0][:2])
            yield Finding(
                severity,
                f"{number(len(found), 'utterance')} {harm} (same bytes: {same})",
                "keep one of each; fdupes lists them",
            )


def _amounts(data: UtteranceTable) -> Iterator[Finding]:
    """Check the numbers of speakers and minutes, their balance, and the validation set."""
    _, n_speakers, minutes = data.size(~data.is_val)
    finetune = "start from the shipped weights (experiment=finetune)"
    if n_speakers == 1:
        yield Finding(
            SERIOUS,
            "there is one speaker: a training run cannot separate the voice from the words",
            f"add speakers, or {finetune}",
        )
    elif n_speakers < FEW_SPEAKERS:
        yield Finding(
            WARNING,
            f"{n_speakers} speakers are too few for unseen voices: the result will only convert "
            "between these",
            f"add speakers, {FEW_SPEAKERS} or better 100, or {finetune}",
        )
    if minutes < FEW_MINUTES:
        yield Finding(
            WARNING,
            f"{minutes:.1f} minutes of training are few: below {FEW_MINUTES:g} a network overfits",
            f"add recordings, or {finetune}",
        )
    trained = np.unique(data.speaker[~data.is_val])
    each = np.bincount(data.speaker, data.seconds * ~data.is_val)[trained] / 60
    if each.max() > UNEQUAL * np.median(each):
        yield Finding(
            HINT,
            f"the speakers are unequal: {data.names[trained[each.argmax()]]} has {each.max():.1f} "
            f"minutes, the median one {np.median(each):.1f}",
            "draw every speaker equally often (data.sampling=speaker), or use less of the longest "
            "(data.minutes_per_speaker=10)",
        )
    if not data.is_val.any():
        yield Finding(
            WARNING,
            "there is no validation set: overfitting will go unnoticed",
            "hold some out: data.val_fraction=0.05 or data.val_speakers=4",
        )
    elif n_speakers >= FEW_SPEAKERS and np.isin(data.speaker[data.is_val], trained).all():
        yield Finding(
            HINT,
            "all speakers of the validation set are trained on: it cannot measure unseen voices",
            "hold some out whole: data.val_speakers=4",
        )
