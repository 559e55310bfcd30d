"""An evaluation on paper: report.json, report.md, TensorBoard and the sound itself."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from vc_lightning.audio import io as audio
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import atomic_path, expand_user
from vc_lightning.common.plots import histogram, mel_figure, pixels
from vc_lightning.evaluation import robustness, worst
from vc_lightning.evaluation.metrics import Figure, figure
from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.results import TITLES, Outcome, Report, Ruler, figures

MAX_COLUMNS = 3  # of groups in a table
MAX_SHOWN = 12  # conversions in TensorBoard
SIMILARITY_EDGES = np.arange(0.3, 1.01, 0.05).round(2)
HEADINGS = {
    "similarity": "Voice (GE2E cosine on recordings left out of the voice)",
    "words": "Words kept (recogniser on the conversion against the same one on the source)",
    "pocketsphinx": "Words kept (a second recogniser; subtract its errors on the sources)",
    "naturalness": "Naturalness (DNSMOS, 1 to 5)",
    "prosody": "Prosody",
    "distortion": "Distance to the target saying the same",
    "speed": "Speed",
}


def write(
    report: Report,
    folder: Path,
    about: dict[str, str],
    mel: MelSpectrogram,
    strings: dict[str, str],
    n_worst: int,
) -> None:
    """Writes all of it into a folder.

    Args: about, what was evaluated, in words; mel, of the converter; strings, which the files of
        conversions carry; n_worst, of the conversions that are shown first.
    """
    ranked = worst.ranked(report.outcomes, n_worst)
    text = markdown(report, about, ranked, folder)
    texts = {"report.json": to_json(report, about, ranked), "report.md": text}
    for name, text in texts.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    for index, outcome in enumerate(report.outcomes):
        for name, wav, said in (
            ("conversion", outcome.wav, strings),
            ("vocoder", outcome.copy, None),
        ):
            audio.save(folder / wav_path(index, outcome, name), wav, mel.sample_rate, said)
    for trial in report.trials[1:]:
        for index, outcome in trial.outcomes:
            path = folder / wav_path(index, outcome, _plain(trial.condition))
            audio.save(path, outcome.wav, mel.sample_rate, strings)
    with SummaryWriter(str(folder)) as writer:
        show(report, writer, text, mel, ranked)


def to_json(report: Report, about: dict[str, str], ranked: Sequence[tuple[int, Outcome]]) -> str:
    """Every figure, and every conversion's own."""
    groups = {
        kind or "all": {
            name: {key: asdict(value) for key, value in figures(outcomes).items()}
            for name, outcomes in by_name.items()
        }
        for kind, by_name in report.groups().items()
    }
    content = {
        "about": about,
        "left_out": report.left_out,
        "real_pairs": report.ruler and _ruler_figures(report.ruler),
        "codes": report.codes
        and {
            "accuracy": asdict(report.codes[0]),
            "chance": report.codes[1],
            "n_speakers": report.codes[2],
        },
        "figures": groups,
        "worst": [
            {
                "pair": index,
                "badness": worst.badness(outcome)[0],
                "because": worst.reason(outcome),
                "wav": wav_path(index, outcome, "conversion").as_posix(),
            }
            | _pair(outcome)
            for index, outcome in ranked
        ],
        "robustness": robustness.to_json(report.trials),
        "pairs": [_pair(outcome) for outcome in report.outcomes],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _ruler_figures(ruler: Ruler) -> dict[str, object]:
    return {
        "same_speaker": asdict(figure(ruler.same)),
        "different_speakers": asdict(figure(ruler.different)),
        "threshold": ruler.threshold,
        "error_rate": ruler.error_rate,
    }


def _pair(outcome: Outcome) -> dict[str, object]:
    pair = outcome.pair
    return {
        "source": str(pair.source),
        "voice": [str(path) for path in pair.voice],
        "target_judge": str(pair.target_judge),
        "source_judge": str(pair.source_judge),
        "parallel": pair.parallel and str(pair.parallel),
        "source_speaker": pair.source_speaker,
        "target_speaker": pair.target_speaker,
        "groups": pair.groups,
        "figures": outcome.values,
        "words": outcome.words,
    }


def markdown(
    report: Report, about: dict[str, str], ranked: Sequence[tuple[int, Outcome]], folder: Path
) -> str:
    """The same for a person, the worst conversions first, the pairs one by one at the end."""
    return "\n".join(_lines(report, about, ranked, folder)) + "\n"


def _lines(
    report: Report, about: dict[str, str], ranked: Sequence[tuple[int, Outcome]], folder: Path
) -> Iterator[str]:
    yield from ("# Evaluation", "")
    yield from (f"- {name}: {value}" for name, value in about.items())
    yield from (
        "",
        "Means [95 % bootstrap interval] (number of pairs); ↑ the more, ↓ the less the better. "
        "Rates of errors are those of all words or characters together. Intervals take pairs for "
        "independent, and those of a few pairs are too narrow. Seen: speakers of the split train.",
        "",
    )
    if report.left_out:
        yield from ("**Not judged:**", "", *(f"- {sentence}" for sentence in report.left_out), "")
    names = [_cell(" → ".join(_names(outcome.pair))) for _, outcome in ranked]
    links = [_cell(_links(index, outcome, folder)) for index, outcome in ranked]
    yield from worst.lines(ranked, list(zip(names, links, strict=True)))
    for kind, by_name in report.groups().items():
        yield from (f"## {f'By {kind}' if kind else 'All pairs'}", "")
        names = list(by_name)
        for start in range(0, len(names), MAX_COLUMNS):
            some = {name: figures(by_name[name]) for name in names[start : start + MAX_COLUMNS]}
            yield from _table(some, report if not kind else None)
    if report.trials:
        yield from robustness.lines(report.trials)
    yield from _pairs_table(report.outcomes)


def _links(index: int, outcome: Outcome, folder: Path) -> str:
    """Links in Markdown from a report's folder to a conversion and all that it was made of."""
    pair = outcome.pair
    files = {name: folder / wav_path(index, outcome, name) for name in ("conversion", "vocoder")}
    files |= {"source": pair.source}
    files |= {f"target {i}": path for i, path in enumerate(pair.voice, start=1)}
    files |= {"target's judge": pair.target_judge}
    links = [
        f"[{name}]({quote(Path(os.path.relpath(path, folder)).as_posix())})"
        for name, path in files.items()
    ]
    return " · ".join(links)


def _table(columns: dict[str, dict[str, Figure]], report: Report | None) -> Iterator[str]:
    """Figures of groups side by side; of a whole report also the ruler and the codes."""
    yield f"| | {' | '.join(_cell(name) for name in columns)} |"
    yield "|---|" + "---|" * len(columns)
    blank = " |" * len(columns)
    for section, heading in HEADINGS.items():
        if section == "speed" and report is None:
            continue  # it does not depend on the group
        keys = [key for key in TITLES if key.startswith(f"{section}/")]
        keys = [key for key in keys if any(key in column for column in columns.values())]
        if not keys:
            continue
        yield f"| **{heading}** |{blank}"
        for key in keys:
            cells = [_figure(column.get(key)) for column in columns.values()]
            yield f"| {TITLES[key]} | {' | '.join(cells)} |"
        if report and section == "similarity" and report.ruler:
            ruler = report.ruler
            yield f"| real pairs: one speaker | {_figure(figure(ruler.same))} |"
            yield f"| real pairs: two speakers | {_figure(figure(ruler.different))} |"
            yield (
                f"| real pairs: threshold | {ruler.threshold:.3f}, "
                f"{ruler.error_rate:.1%} of either kind on its wrong side |"
            )
    if report and report.codes:
        accuracy, chance, n_speakers = report.codes
        yield f"| **Speaker left in the codes (linear classifier, {n_speakers} speakers)** |{blank}"
        yield f"| share of codes recognised (of recordings) | {_figure(accuracy)} |"
        yield f"| by chance | {chance:.3f} |"
    yield ""


def _figure(value: Figure | None) -> str:
    if value is None:
        return "–"
    if value.low is None:
        return f"{value.mean:.3f} ({value.n})"
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}] ({value.n})"


def _pairs_table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """One line a conversion, with the figures that tell most."""
    keys = {
        "similarity/before": "before",
        "similarity/to_target": "to target",
        "similarity/to_source": "to source",
        "words/character_errors": "character errors",
        "naturalness/conversion": "DNSMOS",
        "prosody/correlation": "log-F0 correlation",
    }
    keys = {k: title for k, title in keys.items() if any(k in o.values for o in outcomes)}
    yield from ("## Pair by pair", "", f"| wav | source → target | {' | '.join(keys.values())} |")
    yield "|---|---|" + "---:|" * len(keys)
    for index, outcome in enumerate(outcomes):
        pair = outcome.pair
        values = [f"{outcome.values[k]:.2f}" if k in outcome.values else "–" for k in keys]
        names = _cell(" → ".join(_names(pair)))
        yield f"| {index:03d} | {names} | {' | '.join(values)} |"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def show(
    report: Report,
    writer: SummaryWriter,
    text: str,
    mel: MelSpectrogram,
    ranked: Sequence[tuple[int, Outcome]],
) -> None:
    """Scalars of all groups, histograms of the similarities, and pictures and sound of a few.

    Args: text, of report.md; ranked, the worst conversions, which have tags of their own.
    """
    writer.add_text("report", text)
    for kind, by_name in report.groups().items():
        for name, outcomes in by_name.items():
            group = f"{_plain(kind)}_{_plain(name)}" if kind else "all"
            for key, value in figures(outcomes).items():
                writer.add_scalar(f"{group}/{key}", value.mean)
    if report.codes:
        writer.add_scalar("codes/accuracy", report.codes[0].mean)
        writer.add_scalar("codes/chance", report.codes[1])
    for name, image in similarity_pictures(report).items():
        writer.add_image(f"similarity/{name}", image, dataformats="HWC")
    for trial in report.trials:
        for key, value in robustness.summary(trial).items():
            writer.add_scalar(f"robustness_{_plain(trial.condition)}/{key}", value.mean)
    places = [(f"worst_{place:02d}_", *one) for place, one in enumerate(ranked, start=1)]
    for prefix, _, outcome in places:
        writer.add_text(prefix.rstrip("_"), worst.reason(outcome))
    first = [("", *one) for one in enumerate(report.outcomes)][:MAX_SHOWN]
    for prefix, index, outcome in [*places, *first]:
        title = f"{prefix}{_title(index, outcome)}"
        sounds = {
            "source": outcome.source_wav,
            "vocoder": outcome.copy,
            "conversion": outcome.wav,
        }
        for name, wav in sounds.items():
            sound = torch.from_numpy(np.array(wav)).clamp(-1, 1)
            writer.add_audio(f"{title}/{name}", sound, sample_rate=mel.sample_rate)
        if outcome.values.get("similarity/speech"):
            mels = {
                name: torch.from_numpy(mel.extract(wav, mel.sample_rate))[None]
                for name, wav in sounds.items()
            }
            figure = mel_figure(mels, mel.hop_length / mel.sample_rate)
            writer.add_image(f"mel/{title}", pixels(figure), dataformats="HWC")
    writer.flush()


def similarity_pictures(report: Report) -> dict[str, np.ndarray]:
    """Histograms (height, width, 3) of conversions and, beneath a threshold in red, real pairs."""
    scores = {
        "conversions": [o.values.get("similarity/to_target", np.nan) for o in report.outcomes]
    }
    threshold = -np.inf
    if report.ruler:
        threshold = report.ruler.threshold
        scores |= {"one_speaker": report.ruler.same, "two_speakers": report.ruler.different}
    return {
        name: pixels(
            histogram(
                f"Similarity, {name.replace('_', ' ')}, red below the threshold",
                *("cosine", "pairs", np.array(values), SIMILARITY_EDGES),
                lambda values: values < threshold,
            )
        )
        for name, values in scores.items()
    }


def _title(index: int, outcome: Outcome) -> str:
    return f"{index:03d}_{'_to_'.join(map(_plain, _names(outcome.pair)))}"


def wav_path(index: int, outcome: Outcome, name: str) -> Path:
    """Where a conversion's sound of some name lies in the report's folder."""
    return Path("wavs") / f"{_title(index, outcome)}_{name}.wav"


def _names(pair: Pair) -> list[str]:
    """Short names of both speakers, which may be folders."""
    return [Path(name).name or name for name in (pair.source_speaker, pair.target_speaker)]


def _plain(text: str) -> str:
    """Letters, digits and underscores only, for names of files and curves."""
    return re.sub(r"\W+", "_", text).strip("_")


def require_folder(value: object, key: str) -> Path:
    """A folder to write to, made now; InputError rather than after the work."""
    if not isinstance(value, str) or not value:
        raise InputError(f"{key}={'' if value is None else value}: name a folder")
    folder = expand_user(value)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InputError(f"{key}={value}: holds files already; name a new folder")
        (folder / "wavs").mkdir()
    except OSError as error:
        raise InputError(
            f"{key}={value}: cannot be written ({error.strerror}); name another place"
        ) from error
    return folder
