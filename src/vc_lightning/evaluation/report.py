"""Write an evaluation: report.json, report.md, TensorBoard's files and the sound."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import parts
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import atomic_path, expand_user
from vc_lightning.evaluation import robustness, sound_files, tensorboard, worst
from vc_lightning.evaluation.metrics import Figure, figure
from vc_lightning.evaluation.results import (
    TITLES,
    Evaluation,
    ScoredConversion,
    Verification,
    figures,
    reported,
)
from vc_lightning.evaluation.sound_files import CONVERSION, VOCODER, speaker_names, wav_path

MAX_COLUMNS = 3  # groups side by side in a table
HEADINGS = {
    "similarity": "Voice (GE2E cosine on recordings left out of the voice)",
    "words": "Words kept (transcript of the conversion against that of the source)",
    "pocketsphinx": "Words kept (second recogniser; subtract its errors on the sources)",
    "naturalness": "Naturalness (DNSMOS, 1 to 5)",
    "prosody": "Prosody",
    "distortion": "Distance to the target's recording of the same text",
    "speed": "Speed",
}


def write(
    evaluation: Evaluation,
    folder: Path,
    about: dict[str, str],
    mel: MelSpectrogram,
    load: Callable[[Path], np.ndarray],
    n_worst: int,
) -> None:
    """Write report.json, report.md and TensorBoard's files.

    The sound must have been written, see `sound_files`.

    Args:
        evaluation: The results.
        folder: Folder of the report.
        about: Names and values that describe the evaluation, such as the weights.
        mel: The mel-spectrogram of the converter.
        load: Reads a recording as float32 (n,) at the rate of `mel`.
        n_worst: Number of worst conversions that are shown first.
    """
    ranked = worst.ranked(evaluation.conversions, n_worst)
    text = markdown(evaluation, about, ranked, folder)
    for name, content in {
        "report.md": text,
        "report.json": to_json(evaluation, about, ranked),
    }.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    for earlier in folder.glob("events.out.tfevents.*"):  # from an earlier merge of parts
        earlier.unlink(missing_ok=True)
    with SummaryWriter(str(folder)) as writer:
        tensorboard.show(
            evaluation,
            *(writer, text, mel, ranked),
            lambda index, conversion: sound_files.read(folder, index, conversion, load),
        )


def to_json(
    evaluation: Evaluation, about: dict[str, str], ranked: Sequence[tuple[int, ScoredConversion]]
) -> str:
    """Return the text of report.json: all means, and the scores of every conversion."""
    groups = {
        kind or "all": {
            name: reported({key: asdict(value) for key, value in figures(group).items()})
            for name, group in by_name.items()
        }
        for kind, by_name in evaluation.groups().items()
    }
    content = {
        "about": about,
        "left_out": evaluation.left_out,
        "real_pairs": evaluation.verification and _verification(evaluation.verification),
        "codes": evaluation.probe and asdict(evaluation.probe),
        "figures": groups,
        "worst": [
            {
                "pair": index,
                "badness": worst.badness(conversion)[0],
                "because": worst.reason(conversion),
                "wav": wav_path(index, conversion, CONVERSION).as_posix(),
            }
            | _pair(conversion)
            for index, conversion in ranked
        ],
        "robustness": robustness.to_json(evaluation.conditions),
        "pairs": [_pair(conversion) for conversion in evaluation.conversions],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _verification(verification: Verification) -> dict[str, object]:
    return {
        "same_speaker": asdict(figure(verification.same)),
        "different_speakers": asdict(figure(verification.different)),
        "threshold": verification.threshold,
        "error_rate": verification.error_rate,
    }


def _pair(conversion: ScoredConversion) -> dict[str, object]:
    pair = conversion.pair
    return {
        "source": str(pair.source),
        "voice": [str(path) for path in pair.voice],
        "target_reference": str(pair.target_reference),
        "source_reference": str(pair.source_reference),
        "parallel": pair.parallel and str(pair.parallel),
        "source_speaker": pair.source_speaker,
        "target_speaker": pair.target_speaker,
        "groups": pair.groups,
        "figures": conversion.scores.values(),
        "words": {
            k: text for k, text in asdict(conversion.transcripts).items() if text is not None
        },
    }


def markdown(
    evaluation: Evaluation,
    about: dict[str, str],
    ranked: Sequence[tuple[int, ScoredConversion]],
    folder: Path,
) -> str:
    """Return the text of report.md: the worst conversions first, every pair at the end.

    Args:
        evaluation: The results.
        about: Names and values that describe the evaluation, such as the weights.
        ranked: The worst conversions, see `worst.ranked`.
        folder: Folder of the report, to which links are relative.
    """
    return "\n".join(_lines(evaluation, about, ranked, folder)) + "\n"


def _lines(
    evaluation: Evaluation,
    about: dict[str, str],
    ranked: Sequence[tuple[int, ScoredConversion]],
    folder: Path,
) -> Iterator[str]:
    yield from ("# Evaluation", "")
    yield from (f"- {name}: {value}" for name, value in about.items())
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
    links = [_cell(_links(index, conversion, folder)) for index, conversion in ranked]
    yield from worst.lines(ranked, list(zip(names, links, strict=True)))
    for kind, by_name in evaluation.groups().items():
        yield from (f"## {f'By {kind}' if kind else 'All pairs'}", "")
        names = list(by_name)
        for start in range(0, len(names), MAX_COLUMNS):
            some = {name: figures(by_name[name]) for name in names[start : start + MAX_COLUMNS]}
            yield from _table(some, evaluation if not kind else None)
    if evaluation.conditions:
        yield from robustness.lines(evaluation.conditions)
    yield from _pairs_table(evaluation.conversions)


def _links(index: int, conversion: ScoredConversion, folder: Path) -> str:
    """Link to a conversion and its recordings, in Markdown."""
    pair = conversion.pair
    files = {name: folder / wav_path(index, conversion, name) for name in (CONVERSION, VOCODER)}
    files |= {"source": pair.source}
    files |= {f"target {i}": path for i, path in enumerate(pair.voice, start=1)}
    files |= {"target reference": pair.target_reference}
    links = [
        f"[{name}]({quote(Path(os.path.relpath(path, folder)).as_posix())})"
        for name, path in files.items()
    ]
    return " · ".join(links)


def _table(columns: dict[str, dict[str, Figure]], evaluation: Evaluation | None) -> Iterator[str]:
    """Yield a table of means, one column per group; add real pairs and codes of `evaluation`."""
    yield f"| | {' | '.join(_cell(name) for name in columns)} |"
    yield "|---|" + "---|" * len(columns)
    blank = " |" * len(columns)
    for section, heading in HEADINGS.items():
        if section == "speed" and evaluation is None:
            continue  # speed does not depend on the group
        keys = [key for key in TITLES if key.startswith(f"{section}_")]
        keys = [key for key in keys if any(key in column for column in columns.values())]
        if not keys:
            continue
        yield f"| **{heading}** |{blank}"
        for key in keys:
            cells = [_figure(column.get(key)) for column in columns.values()]
            yield f"| {TITLES[key]} | {' | '.join(cells)} |"
        if evaluation and section == "similarity" and evaluation.verification:
            real = evaluation.verification
            yield f"| real pairs: one speaker | {_figure(figure(real.same))} |"
            yield f"| real pairs: two speakers | {_figure(figure(real.different))} |"
            yield (
                f"| real pairs: threshold | {real.threshold:.3f}, "
                f"{real.error_rate:.1%} of either kind on its wrong side |"
            )
    if evaluation and evaluation.probe:
        probe = evaluation.probe
        speakers = f"linear classifier, {probe.n_speakers} speakers"
        yield f"| **Speaker left in the codes ({speakers})** |{blank}"
        yield f"| share of codes recognised (of recordings) | {_figure(probe.accuracy)} |"
        yield f"| by chance | {probe.chance:.3f} |"
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
        "similarity_before": "before",
        "similarity_to_target": "to target",
        "similarity_to_source": "to source",
        "words_character_errors": "character errors",
        "naturalness_conversion": "DNSMOS",
        "prosody_correlation": "log-F0 correlation",
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


def require_folder(value: object, key: str, part: bool = False) -> Path:
    """Create the folder of a report, before any work starts.

    Args:
        value: The value of the config key.
        key: Name of the config key, for error messages.
        part: Whether the folder may hold results of other parts of the evaluation.

    Returns:
        The folder.

    Raises:
        InputError: The folder holds other files, or cannot be written.
    """
    if not isinstance(value, str) or not value:
        raise InputError(f"{key}={'' if value is None else value}: name a folder")
    folder = expand_user(value)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (part and (folder / parts.FOLDER).is_dir()):
            raise InputError(f"{key}={value}: holds files already; name a new folder")
        if part:  # created first, so that parts that start at the same time find it
            (folder / parts.FOLDER).mkdir(exist_ok=True)
        (folder / sound_files.FOLDER).mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{key}={value}: cannot be written ({error.strerror}); name another place"
        ) from error
    return folder
