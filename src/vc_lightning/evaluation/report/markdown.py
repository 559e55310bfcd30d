"""The text of report.md: the worst conversions first, every pair at the end."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from vc_lightning.evaluation import robustness
from vc_lightning.evaluation.report import pictures, worst
from vc_lightning.evaluation.report.contents import Contents
from vc_lightning.evaluation.report.sound_files import CONVERSION, VOCODER, speaker_names, wav_path
from vc_lightning.evaluation.scores import SECTIONS, TITLES, ScoredConversion, figures
from vc_lightning.evaluation.statistics import Figure, figure
from vc_lightning.evaluation.summary import Evaluation

MAX_COLUMNS = 3  # groups side by side in a table
JUDGES = {"campplus": "CAM++", "ge2e": "GE2E"}


def lines(contents: Contents) -> Iterator[str]:
    """Yield the lines of report.md: the worst conversions first, every pair at the end."""
    evaluation, ranked = contents.evaluation, contents.ranked
    yield from ("# Evaluation", "")
    yield from (f"- {name}: {value}" for name, value in contents.about.items())
    yield from (
        "",
        "Means [95 % bootstrap interval] (number of pairs); ↑ higher is better, ↓ lower is better. "
        "Error rates are over all words or characters together. Intervals assume that pairs are "
        "independent; with few pairs they are too narrow. Seen: speakers of the split train.",
        "",
    )
    if evaluation.left_out:
        yield from (
            "**Not scored:**",
            "",
            *(f"- {sentence}" for sentence in evaluation.left_out),
            "",
        )
    names = [_cell(" → ".join(speaker_names(conversion.pair))) for _, conversion in ranked]
    links = [_cell(_links(index, conversion, contents.folder)) for index, conversion in ranked]
    yield from worst.lines(ranked, list(zip(names, links, strict=True)))
    if any(evaluation.verified.values()):
        yield from _verified(evaluation)
    for kind, by_name in evaluation.groups().items():
        yield from (f"## {f'By {kind}' if kind else 'All pairs'}", "")
        names = list(by_name)
        for start in range(0, len(names), MAX_COLUMNS):
            some = {name: figures(by_name[name]) for name in names[start : start + MAX_COLUMNS]}
            yield from _table(some, evaluation if not kind else None)
    if evaluation.conditions:
        yield from robustness.lines(evaluation.conditions)
        yield from (f"![scores under every condition]({pictures.ROBUSTNESS})", "")
    yield from _pairs_table(evaluation.conversions)


def _links(index: int, conversion: ScoredConversion, folder: Path) -> str:
    """Link to a conversion, its recordings and its picture, in Markdown."""
    pair = conversion.pair
    files = {CONVERSION: folder / wav_path(index, conversion, CONVERSION)}
    vocoder = folder / wav_path(index, conversion, VOCODER)
    if vocoder.is_file():
        files[VOCODER] = vocoder
    files |= {"source": pair.source}
    files |= {f"target {i}": path for i, path in enumerate(pair.voice, start=1)}
    files |= {"target reference": pair.target_reference}
    if conversion.scores.has_speech:
        files["picture"] = folder / pictures.path_of(index, conversion)
    links = [
        f"[{name}]({quote(Path(os.path.relpath(path, folder)).as_posix())})"
        for name, path in files.items()
    ]
    return " · ".join(links)


def _table(columns: dict[str, dict[str, Figure]], evaluation: Evaluation | None) -> Iterator[str]:
    """Yield a table of means, one column per group; add the codes of `evaluation`."""
    yield f"| | {' | '.join(_cell(name) for name in columns)} |"
    yield "|---|" + "---|" * len(columns)
    blank = " |" * len(columns)
    for section, heading in SECTIONS.items():
        if section == "speed" and evaluation is None:
            continue  # speed does not depend on the group
        keys = [key for key in TITLES if key.startswith(f"{section}/")]
        keys = [key for key in keys if any(key in column for column in columns.values())]
        if not keys:
            continue
        yield f"| **{heading}** |{blank}"
        for key in keys:
            cells = [_figure(column.get(key)) for column in columns.values()]
            yield f"| {TITLES[key]} | {' | '.join(cells)} |"
    if evaluation and evaluation.probe:
        probe = evaluation.probe
        speakers = f"linear classifier, {probe.n_speakers} speakers"
        yield f"| **Speaker left in the codes ({speakers})** |{blank}"
        yield f"| share of codes recognised (of recordings) | {_figure(probe.accuracy)} |"
        yield f"| by chance | {probe.chance:.3f} |"
    yield ""


def _verified(evaluation: Evaluation) -> Iterator[str]:
    """Yield a table of what the voice judges say of real recordings, by domain."""
    yield from ("## Real recordings: what the voice judges can tell", "")
    yield (
        "Cosines of two recordings of one speaker and of two speakers of one domain. At the "
        "threshold equal shares of both are on the wrong side (equal error rate)."
    )
    yield from ("", "| judge | recordings | one speaker | two speakers | threshold | error rate |")
    yield "|---|---|---|---|---:|---:|"
    for judge, verified in evaluation.verified.items():
        for name, real in verified.items():
            yield (
                f"| {JUDGES[judge]} | {_cell(name)} | {_figure(figure(real.same))} "
                f"| {_figure(figure(real.different))} | {real.threshold:.3f} "
                f"| {real.error_rate:.1%} |"
            )
    yield ""


def _figure(value: Figure | None) -> str:
    if value is None:
        return "–"
    if value.low is None:
        return f"{value.mean:.3f} ({value.n})"
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}] ({value.n})"


def _pairs_table(conversions: Sequence[ScoredConversion]) -> Iterator[str]:
    """Yield a table with the most important scores of each conversion."""
    columns = {
        "campplus/before": "CAM++ before",
        "campplus/to_target": "to target",
        "campplus/to_source": "to source",
        "distillmos/conversion": "DistillMOS",
        "words/source_character_errors": "character errors of the source",
        "words/character_errors": "of the conversion",
        "ge2e/to_target": "GE2E to target",
        "dnsmos/conversion": "DNSMOS",
        "prosody/correlation": "log-F0 correlation",
    }
    measured = figures(conversions, list(columns))
    columns = {name: title for name, title in columns.items() if name in measured}
    titles = " | ".join(columns.values())
    yield from ("## Pair by pair", "", f"| wav | source → target | {titles} |")
    yield "|---|---|" + "---:|" * len(columns)
    for index, conversion in enumerate(conversions):
        values = [conversion.scores.value(name) for name in columns]
        shown = " | ".join("–" if value is None else f"{value:.2f}" for value in values)
        yield f"| {index:03d} | {_cell(' → '.join(speaker_names(conversion.pair)))} | {shown} |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
