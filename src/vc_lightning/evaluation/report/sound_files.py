"""Sound files of an evaluation: their names, and writing them."""

import re
from pathlib import Path

from vc_lightning.audio.files import io as audio
from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.report.part_files import PartialResults
from vc_lightning.evaluation.scores import ScoredConversion

FOLDER = "wavs"
CONVERSION, VOCODER = "conversion", "vocoder"  # last part of the file names


def wav_path(index: int, conversion: ScoredConversion, name: str) -> Path:
    """Return the path of a conversion's sound, relative to the folder of the report.

    Args:
        index: Number of its pair.
        conversion: The conversion.
        name: Which sound: `CONVERSION`, `VOCODER` or a condition.
    """
    return Path(FOLDER) / f"{title(index, conversion)}_{plain(name)}.wav"


def title(index: int, conversion: ScoredConversion) -> str:
    """Return a conversion's number and speakers, for names of files and curves."""
    return f"{index:03d}_{'_to_'.join(map(plain, speaker_names(conversion.pair)))}"


def speaker_names(pair: Pair) -> list[str]:
    """Return short names of source and target speaker; of a folder, the last part."""
    return [Path(name).name or name for name in (pair.source_speaker, pair.target_speaker)]


def plain(text: str) -> str:
    """Replace all but letters and digits by underscores, for names of files and curves."""
    return re.sub(r"\W+", "_", text).strip("_")


def write(folder: Path, results: PartialResults, sample_rate: int, note: dict[str, str]) -> None:
    """Write the sound of conversions, and of sources resynthesised by the vocoder alone.

    Args:
        folder: Folder of the report.
        results: The conversions.
        sample_rate: Sample rate in Hz.
        note: Provenance to write into the files of conversions, see `provenance.strings`.
    """
    for index, conversion in results.conversions.items():
        sounds = conversion.sounds
        path = folder / wav_path(index, conversion, CONVERSION)
        audio.save(path, sounds.conversion, sample_rate, note)
        if sounds.vocoder is not None:
            path = folder / wav_path(index, conversion, VOCODER)
            audio.save(path, sounds.vocoder, sample_rate)
    for condition in results.conditions[1:]:
        for index, conversion in condition.conversions.items():
            path = folder / wav_path(index, conversion, condition.condition)
            audio.save(path, conversion.sounds.conversion, sample_rate, note)
