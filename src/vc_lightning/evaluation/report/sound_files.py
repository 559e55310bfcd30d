"""Sound files of an evaluation: names, writing and reading."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from vc_lightning.audio.files import io as audio
from vc_lightning.common.errors import InputError
from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.part_files import PartialResults
from vc_lightning.evaluation.scores import ScoredConversion, Sounds

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


def read(
    folder: Path, index: int, conversion: ScoredConversion, load: Callable[[Path], np.ndarray]
) -> Sounds:
    """Read the sound of a conversion that `write` has written, and its source.

    Args:
        folder: Folder of the report.
        index: Number of the pair.
        conversion: The conversion.
        load: Reads a source as float32 (n,) at the rate of the conversions.

    Raises:
        InputError: A file is missing or damaged.
    """
    path, vocoder_path = (
        folder / wav_path(index, conversion, name) for name in (CONVERSION, VOCODER)
    )
    try:
        after, vocoder = soundfile.read(path, dtype="float32")[0], None
        if vocoder_path.is_file():
            vocoder = soundfile.read(vocoder_path, dtype="float32")[0]
    except (OSError, soundfile.SoundFileError) as error:
        raise InputError(f"{folder}: the sound of pair {index} cannot be read ({error})") from error
    return Sounds(load(conversion.pair.source), after, vocoder)
