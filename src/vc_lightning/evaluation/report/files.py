"""Write the report of an evaluation: report.json, report.md, pictures and TensorBoard's files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import parts
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import atomic_path, expand_user
from vc_lightning.evaluation.report import (
    as_json,
    markdown,
    pictures,
    sound_files,
    tensorboard,
    worst,
)
from vc_lightning.evaluation.scores import ScoredConversion, Sounds
from vc_lightning.evaluation.summary import Evaluation


def write(
    evaluation: Evaluation,
    folder: Path,
    about: dict[str, str],
    mel: MelSpectrogram,
    load: Callable[[Path], np.ndarray],
    n_worst: int,
) -> None:
    """Write report.json, report.md, pictures and TensorBoard's files.

    The sound must have been written, see `sound_files`.

    Args:
        evaluation: The results.
        folder: Folder of the report.
        about: Names and values that describe the evaluation, such as the weights.
        mel: The mel-spectrogram of the converter.
        load: Reads a recording as float32 (n,) at the rate of `mel`.
        n_worst: Number of worst conversions of each domain that are shown first.
    """
    ranked = worst.ranked(evaluation.conversions, n_worst)
    text = "\n".join(markdown.lines(evaluation, about, ranked, folder)) + "\n"
    for name, content in {
        "report.md": text,
        "report.json": as_json.text(evaluation, about, ranked),
    }.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")

    def sounds(index: int, conversion: ScoredConversion) -> Sounds:
        return sound_files.read(folder, index, conversion, load)

    for index, conversion in ranked:
        pictures.write(folder, index, conversion, sounds(index, conversion), mel)
    if evaluation.conditions:
        pictures.write_robustness(folder, evaluation.conditions)
    for earlier in folder.glob("events.out.tfevents.*"):  # from an earlier merge of parts
        earlier.unlink(missing_ok=True)
    with SummaryWriter(str(folder)) as writer:
        tensorboard.show(evaluation, writer, text, mel, ranked, sounds)


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
