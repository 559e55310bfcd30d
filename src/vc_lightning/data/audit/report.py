"""The doctor's report on recordings: as lines, as a table and as pictures."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from vc_lightning.audio.quality import Quality
from vc_lightning.common.plots import histogram
from vc_lightning.data.audit.checks import (
    CLIPPED_SHARE,
    NOISY_DB,
    SERIOUS,
    SHORT_SECONDS,
    SILENT_SHARE,
    Finding,
    findings,
)
from vc_lightning.data.audit.table import Columns, number
from vc_lightning.data.feature_extraction import FeatureCache
from vc_lightning.data.manifest import Utterance

MAX_ROWS = 30  # speakers that the table names
MAX_BRIEF = 3  # serious findings before every training
MAX_NAME = 32  # characters of a speaker's name
LINE = 100  # characters
HEAD = ["speaker", "split", "utterances", "minutes", "SNR dB", "clipped", "speech", "kHz"]
MINUTES = [0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500]
PERCENT_CLIPPED = [0, 0.001, 0.01, 0.1, 1, 10, 100]
STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500]  # seconds a bar


@dataclass(frozen=True)
class Speaker:
    """One voice.

    Attributes:
        split: train, val or both.
        snr_db, voiced: medians over the recordings, voiced as a share of their time.
        clipped: how many of the recordings are.
        rates: sample rates in Hz.
    """

    name: str
    split: str
    utterances: int
    minutes: float
    snr_db: float
    clipped: int
    voiced: float
    rates: tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """What the doctor says.

    Attributes:
        speakers: the longest first; `findings`: the most serious first.
        sizes: utterances, speakers and minutes of training and validation.
        seconds: of every utterance (n,).
        snr_db, voiced, clipped: of every recording (m,), the latter two as shares.
    """

    speakers: list[Speaker]
    findings: list[Finding]
    sizes: dict[str, tuple[int, int, float]]
    seconds: np.ndarray
    snr_db: np.ndarray
    voiced: np.ndarray
    clipped: np.ndarray


def diagnose(
    train: Sequence[Utterance],
    val: Sequence[Utterance],
    unusable: dict[Path, str],
    cache: FeatureCache,
) -> Report:
    """The report on utterances whose features are in the cache."""
    pieces = [utterance.piece for utterance in (*train, *val)]
    recordings = {piece.content: piece for piece in pieces}
    qualities = {content: cache.quality(piece) for content, piece in recordings.items()}
    voices = None
    if cache.speaker_encoder.unit_norm:  # GE2E; cosines of the original D_VECTOR are others
        voices = np.stack([cache.files.read_embedding(piece).numpy() for piece in pieces])
    return examine(train, val, unusable, qualities, voices, cache.mel.settings, cache.max_seconds)


def examine(
    train: Sequence[Utterance],
    val: Sequence[Utterance],
    unusable: dict[Path, str],
    qualities: dict[str, Quality | None],
    voices: np.ndarray | None,
    mel: dict,
    max_seconds: float,
) -> Report:
    """The report on utterances; reads nothing. See `Columns` and `findings` for the arguments."""
    data = Columns(train, val, qualities, voices, mel)
    return Report(
        speakers=sorted(_speakers(data), key=lambda speaker: (-speaker.minutes, speaker.name)),
        findings=findings(data, unusable, mel, max_seconds),
        sizes={"training": data.size(~data.is_val), "validation": data.size(data.is_val)},
        seconds=data.seconds,
        snr_db=data.snr_db[data.is_first],
        voiced=data.voiced[data.is_first],
        clipped=data.clipped[data.is_first],
    )


def _speakers(data: Columns) -> Iterator[Speaker]:
    for name, rows in zip(data.names, data.by_speaker(), strict=True):
        # A speaker's pieces may all be later ones of a recording that begins with another's.
        _, first = np.unique([data.utterances[row].path for row in rows], return_index=True)
        first = rows[first]
        in_val = data.is_val[rows].mean()
        yield Speaker(
            name=name,
            split={0: "train", 1: "val"}.get(in_val, "both"),
            utterances=len(rows),
            minutes=float(data.seconds[rows].sum() / 60),
            snr_db=float(np.median(data.snr_db[first])),
            clipped=int((data.clipped[first] > CLIPPED_SHARE).sum()),
            voiced=float(np.median(data.voiced[first])),
            rates=tuple(sorted(set(data.rate[first].tolist()) - {0})),
        )


def brief(report: Report) -> list[str]:
    """What is said before every training."""
    lines = [
        f"{name}: {utterances} utterances of {speakers} speakers, {minutes:.1f} minutes"
        if utterances
        else f"{name}: none"
        for name, (utterances, speakers, minutes) in report.sizes.items()
    ]
    serious = [finding for finding in report.findings if finding.severity == SERIOUS]
    lines += [f"serious: {plain(finding.what)}" for finding in serious[:MAX_BRIEF]]
    if report.findings:
        count = number(len(report.findings), "finding")
        lines.append(f"{count} about the data; data.check=true tells them and what to do")
    return lines


def table(report: Report) -> str:
    """The speakers as aligned text, then what is the matter and what to do about it."""
    rows = [HEAD, *_rows(report)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        padded[:2] = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        lines.append("  ".join(padded).rstrip())
    lines.append("")
    for finding in report.findings:
        for text in (f"{finding.severity}: {finding.what}", f"  → {finding.remedy}"):
            lines += textwrap.wrap(
                plain(text), LINE, subsequent_indent="    ", break_on_hyphens=False
            )
    return "\n".join(lines if report.findings else [*lines, "nothing is the matter"])


def markdown(report: Report) -> str:
    """The same for TensorBoard."""
    rows = [[cell.replace("|", r"\|") for cell in row] for row in (HEAD, *_rows(report))]
    head, *rows = [f"| {' | '.join(row)} |" for row in rows]
    ruler = "|---|---|" + "---:|" * (len(HEAD) - 2)
    found = [f"- **{f.severity}**: {plain(f.what)} → {plain(f.remedy)}" for f in report.findings]
    return "\n".join([head, ruler, *rows, "", *found])


def pictures(report: Report) -> dict[str, np.ndarray]:
    """Histograms as images (height, width, 3), uint8."""
    minutes = np.array([speaker.minutes for speaker in report.speakers])
    longest = report.seconds.max()
    step = next((step for step in STEPS if longest <= 25 * step), STEPS[-1])
    seconds = step * np.arange(min(26, int(longest / step) + 2))
    percents = np.arange(0, 101, 5)
    return {
        "minutes": histogram("Minutes of each speaker", "minutes", "speakers", minutes, MINUTES),
        "seconds": histogram(
            f"Seconds of each utterance, red below {SHORT_SECONDS:g}",
            *("s", "utterances", report.seconds, seconds),
            lambda values: values < SHORT_SECONDS,
        ),
        "snr": histogram(
            f"Speech over noise, red below {NOISY_DB:g} dB",
            *("dB", "recordings", report.snr_db, np.arange(-10, 81, 5)),
            lambda values: values < NOISY_DB,
        ),
        "speech": histogram(
            f"Share of speech, red below {SILENT_SHARE:.0%}",
            *("%", "recordings", 100 * report.voiced, percents),
            lambda values: values < 100 * SILENT_SHARE,
        ),
        "clipped": histogram(
            f"Share of clipped samples, red above {CLIPPED_SHARE:.2%}",
            *("%", "recordings", 100 * report.clipped, PERCENT_CLIPPED),
            lambda values: values > 100 * CLIPPED_SHARE,
        ),
    }


def write(report: Report, writer: SummaryWriter) -> None:
    """Shows table and pictures in TensorBoard."""
    writer.add_text("data", markdown(report))
    for name, image in pictures(report).items():
        writer.add_image(f"data/{name}", image, dataformats="HWC")
    writer.flush()


def plain(text: str) -> str:
    """Without what no terminal shows or no encoding takes: names of files may hold anything."""
    return "".join(c if c.isprintable() else "�" for c in text)


def _rows(report: Report) -> list[list[str]]:
    """The cells of the longest speakers, of the others together and of all."""
    shown, others = report.speakers[:MAX_ROWS], report.speakers[MAX_ROWS:]
    rows = [_row(_shortened(plain(speaker.name)), [speaker]) for speaker in shown]
    if others:
        rows.append(_row(f"{len(others)} others", others))
    return [*rows, _row("all", report.speakers)]


def _row(name: str, speakers: list[Speaker]) -> list[str]:
    """The cells of some speakers together."""
    splits = {speaker.split for speaker in speakers}
    rates = sorted({rate for speaker in speakers for rate in speaker.rates})
    return [
        name,
        splits.pop() if len(splits) == 1 else "",
        f"{sum(speaker.utterances for speaker in speakers)}",
        f"{sum(speaker.minutes for speaker in speakers):.1f}",
        f"{np.median([speaker.snr_db for speaker in speakers]):.0f}",
        f"{sum(speaker.clipped for speaker in speakers)}",
        f"{np.median([speaker.voiced for speaker in speakers]):.0%}",
        "/".join(f"{rate / 1000:g}" for rate in rates),
    ]


def _shortened(name: str) -> str:
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
