"""The audit of a data set, and its output as lines, a table and histograms."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from vc_lightning.common import resources
from vc_lightning.common.plots import histogram, pixels
from vc_lightning.data.audit.checks import (
    CLIPPED_SHARE,
    NOISY_DB,
    SHORT_SECONDS,
    SILENT_SHARE,
    findings,
)
from vc_lightning.data.audit.table import SERIOUS, Finding, UtteranceTable, number
from vc_lightning.data.modules.recordings import RecordingsDataModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_ROWS = 30  # speakers with a row of their own
MAX_SUMMARY = 3  # serious findings in the summary
MAX_NAME = 32  # characters of a speaker's name
LINE = 100  # characters, where findings are wrapped
HEAD = ["speaker", "split", "utterances", "minutes", "SNR dB", "clipped", "speech", "kHz"]
MINUTES = [0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500]
PERCENT_CLIPPED = [0, 0.001, 0.01, 0.1, 1, 10, 100]
STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500]  # seconds per histogram bin


@dataclass(frozen=True)
class SpeakerSummary:
    """One speaker's recordings in numbers.

    Attributes:
        name: Name of the speaker.
        split: "train", "val" or "both".
        utterances: Number of utterances.
        minutes: Total length of the utterances.
        snr_db: Median signal-to-noise ratio of the recordings.
        clipped: Number of clipped recordings.
        voiced: Median share of speech in the recordings.
        rates: Sample rates in Hz.
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
class AuditReport:
    """Result of an audit.

    Attributes:
        data: The utterances.
        speakers: The speakers, the longest first.
        findings: The findings, the most serious first.
        sizes: Numbers of utterances, speakers and minutes of "training" and "validation".
    """

    data: UtteranceTable
    speakers: list[SpeakerSummary]
    findings: list[Finding]
    sizes: dict[str, tuple[int, int, float]]


def audit(data: RecordingsDataModule) -> AuditReport:
    """Audit the recordings of a data module, after `setup`."""
    utterances = [*data.train, *data.val]
    contents = {u.segment.content for u in utterances}
    qualities = {content: data.features.quality(content) for content in contents}
    voices = None
    if data.needs.speaker_encoder.unit_norm:  # GE2E; the thresholds do not fit D_VECTOR's cosines
        embeddings = [data.files.of(u.segment).read_embedding() for u in utterances]
        voices = torch.stack(embeddings).numpy()
    table = UtteranceTable(data.train, data.val, qualities, voices, data.mel.settings)
    return examine(table, data.unusable, data.settings.max_seconds)


def examine(data: UtteranceTable, unusable: dict[Path, str], max_seconds: float) -> AuditReport:
    """Audit utterances.

    Args:
        data: The utterances.
        unusable: Files that were left out, with the reasons.
        max_seconds: Length in seconds above which recordings were cut into segments.
    """
    return AuditReport(
        data,
        speakers=sorted(_speakers(data), key=lambda speaker: (-speaker.minutes, speaker.name)),
        findings=findings(data, unusable, max_seconds),
        sizes={"training": data.size(~data.is_val), "validation": data.size(data.is_val)},
    )


def _speakers(data: UtteranceTable) -> Iterator[SpeakerSummary]:
    for name, rows in zip(data.names, data.by_speaker(), strict=True):
        # Not `is_first`: a recording listed under two speakers has its first row at one of them.
        _, first = np.unique([data.utterances[row].path for row in rows], return_index=True)
        first = rows[first]
        in_val = data.is_val[rows].mean()
        yield SpeakerSummary(
            name=name,
            split={0: "train", 1: "val"}.get(in_val, "both"),
            utterances=len(rows),
            minutes=float(data.seconds[rows].sum() / 60),
            snr_db=float(np.median(data.snr_db[first])),
            clipped=int((data.clipped[first] > CLIPPED_SHARE).sum()),
            voiced=float(np.median(data.voiced[first])),
            rates=tuple(sorted(set(data.rate[first].tolist()) - {0})),
        )


def summary(report: AuditReport) -> list[str]:
    """List the lines shown before every training run: sizes and the most serious findings."""
    lines = [
        f"{name}: {utterances} utterances of {speakers} speakers, {minutes:.1f} minutes"
        if utterances
        else f"{name}: none"
        for name, (utterances, speakers, minutes) in report.sizes.items()
    ]
    serious = [finding for finding in report.findings if finding.severity == SERIOUS]
    lines += [f"serious: {plain(finding.problem)}" for finding in serious[:MAX_SUMMARY]]
    if report.findings:
        count = number(len(report.findings), "finding")
        command = resources.command("prepare")
        lines.append(f"{count} about the data; {command} check lists them with remedies")
    return lines


def table(report: AuditReport) -> str:
    """Format the speakers as aligned text, followed by the findings with their remedies."""
    rows = [HEAD, *_rows(report)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        padded[:2] = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        lines.append("  ".join(padded).rstrip())
    lines.append("")
    for finding in report.findings:
        for text in (f"{finding.severity}: {finding.problem}", f"  → {finding.remedy}"):
            lines += textwrap.wrap(
                plain(text), LINE, subsequent_indent="    ", break_on_hyphens=False
            )
    return "\n".join(lines if report.findings else [*lines, "no problems found"])


def markdown(report: AuditReport) -> str:
    """Format the speakers and the findings as Markdown, for TensorBoard."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in (HEAD, *_rows(report))]
    head, *rows = [f"| {' | '.join(row)} |" for row in cells]
    rule = "|---|---|" + "---:|" * (len(HEAD) - 2)
    found = [f"- **{f.severity}**: {plain(f.problem)} → {plain(f.remedy)}" for f in report.findings]
    return "\n".join([head, rule, *rows, "", *found])


def figures(report: AuditReport) -> dict[str, Figure]:
    """Draw the histograms of minutes, durations, SNR, speech and clipping."""
    data, minutes = report.data, np.array([speaker.minutes for speaker in report.speakers])
    longest = data.seconds.max()
    step = next((step for step in STEPS if longest <= 25 * step), STEPS[-1])
    seconds = [step * i for i in range(min(26, int(longest / step) + 2))]
    return {
        "minutes": histogram("Minutes of each speaker", "minutes", "speakers", minutes, MINUTES),
        "seconds": histogram(
            f"Seconds of each utterance, red below {SHORT_SECONDS:g}",
            *("s", "utterances", data.seconds, seconds),
            lambda values: values < SHORT_SECONDS,
        ),
        "snr": histogram(
            f"Speech over noise, red below {NOISY_DB:g} dB",
            *("dB", "recordings", data.snr_db[data.is_first], range(-10, 81, 5)),
            lambda values: values < NOISY_DB,
        ),
        "speech": histogram(
            f"Share of speech, red below {SILENT_SHARE:.0%}",
            *("%", "recordings", 100 * data.voiced[data.is_first], range(0, 101, 5)),
            lambda values: values < 100 * SILENT_SHARE,
        ),
        "clipped": histogram(
            f"Share of clipped samples, red above {CLIPPED_SHARE:.2%}",
            *("%", "recordings", 100 * data.clipped[data.is_first], PERCENT_CLIPPED),
            lambda values: values > 100 * CLIPPED_SHARE,
        ),
    }


def write(report: AuditReport, writer: SummaryWriter) -> None:
    """Write the table, the findings and the histograms to TensorBoard."""
    writer.add_text("data", markdown(report))
    for name, figure in figures(report).items():
        writer.add_image(f"data/{name}", pixels(figure), dataformats="HWC")
    writer.flush()


def plain(text: str) -> str:
    """Replace the unprintable characters that file names may contain."""
    return "".join(c if c.isprintable() else "�" for c in text)


def _rows(report: AuditReport) -> list[list[str]]:
    """Make a row for each of the longest speakers, one for all others, and one for all."""
    shown, others = report.speakers[:MAX_ROWS], report.speakers[MAX_ROWS:]
    rows = [_row(_shortened(plain(speaker.name)), [speaker]) for speaker in shown]
    if others:
        rows.append(_row(f"{len(others)} others", others))
    return [*rows, _row("all", report.speakers)]


def _row(name: str, speakers: list[SpeakerSummary]) -> list[str]:
    """Make one row for some speakers together."""
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
