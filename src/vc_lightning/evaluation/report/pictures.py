"""Pictures of conversions: the mels of source, vocoder alone and conversion."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.files import atomic_path
from vc_lightning.common.plots import mel_figure
from vc_lightning.evaluation.report.sound_files import title
from vc_lightning.evaluation.scores import ScoredConversion, Sounds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "pictures"
DPI = 80


def mels(sounds: Sounds, mel: MelSpectrogram) -> "Figure":
    """Draw the mels of sounds one above the other."""
    found = {
        name: torch.from_numpy(mel.extract(wav, mel.sample_rate))[None]
        for name, wav in sounds.named().items()
    }
    return mel_figure(found, mel.hop_length / mel.sample_rate)


def path_of(index: int, conversion: ScoredConversion) -> Path:
    """Return the path of a conversion's picture, relative to the folder of the report."""
    return Path(FOLDER) / f"{title(index, conversion)}.png"


def write(
    folder: Path, index: int, conversion: ScoredConversion, sounds: Sounds, mel: MelSpectrogram
) -> None:
    """Write the picture of a conversion; there is none of a conversion without speech.

    Args:
        folder: Folder of the report.
        index: Number of the pair.
        conversion: The conversion.
        sounds: Its sound.
        mel: The mel-spectrogram of the converter.
    """
    if not conversion.scores.has_speech:
        return
    path = folder / path_of(index, conversion)
    path.parent.mkdir(exist_ok=True)
    with atomic_path(path) as temporary:
        mels(sounds, mel).savefig(temporary, format="png", dpi=DPI)
