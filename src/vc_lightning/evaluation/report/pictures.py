"""Pictures: mels of source, vocoder alone and conversion; scores under worse conditions."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.files import atomic_path
from vc_lightning.common.plots import mel_figure
from vc_lightning.evaluation import robustness
from vc_lightning.evaluation.report.contents import Contents
from vc_lightning.evaluation.report.sound_files import title
from vc_lightning.evaluation.robustness import ConditionResults
from vc_lightning.evaluation.scores import ScoredConversion, Sounds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "pictures"
ROBUSTNESS = f"{FOLDER}/robustness.png"
DPI = 80
BAR_HEIGHT = 0.28  # inches
BAR_COLOUR = "#9e2f7f"


def mels(sounds: Sounds, mel: MelSpectrogram) -> "Figure":
    """Draw the mels of sounds one above the other."""
    found = {
        name: torch.from_numpy(mel.extract(wav, mel.sample_rate))[None]
        for name, wav in sounds.named().items()
    }
    return mel_figure(found, mel.hop_length / mel.sample_rate)


def write_robustness(folder: Path, conditions: Sequence[ConditionResults]) -> None:
    """Draw what conversion loses under each condition: a bar a condition, a column a score.

    The line in each column is the score of the sources as recorded to whole voices.

    Args:
        folder: Folder of the report.
        conditions: The results, those for clean sources first.
    """
    from matplotlib.figure import Figure

    means = [robustness.summary(results) for results in conditions]
    columns = {key: title for key, title in robustness.COLUMNS.items() if key in means[0]}
    drawing = Figure(
        figsize=(2.2 * len(columns) + 3, BAR_HEIGHT * len(conditions) + 1), layout="constrained"
    )
    names = [results.condition for results in conditions]
    rows = drawing.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, (key, heading) in zip(rows, columns.items(), strict=True):
        axes.barh(names, [one[key].mean if key in one else 0 for one in means], color=BAR_COLOUR)
        axes.axvline(means[0][key].mean, color="black", linewidth=1)
        axes.set_title(heading, fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
    rows[0].invert_yaxis()
    _save(drawing, folder / ROBUSTNESS)


def path_of(index: int, conversion: ScoredConversion) -> Path:
    """Return the path of a conversion's picture, relative to the folder of the report."""
    return Path(FOLDER) / f"{title(index, conversion)}.png"


def write(contents: Contents, index: int, conversion: ScoredConversion) -> None:
    """Write the picture of a conversion with speech, given the number of its pair."""
    if conversion.scores.has_speech:
        drawing = mels(contents.sounds(index, conversion), contents.converter.mel)
        _save(drawing, contents.folder / path_of(index, conversion))


def _save(figure: "Figure", path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)
