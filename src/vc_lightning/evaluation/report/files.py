"""Write the report of an evaluation: report.json, report.md, pictures and TensorBoard's files."""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from vc_lightning.common import parts
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import atomic_path, expand_user
from vc_lightning.evaluation.report import as_json, markdown, pictures, sound_files, tensorboard
from vc_lightning.evaluation.report.contents import Contents


def write(contents: Contents) -> None:
    """Write report.json, report.md, pictures and TensorBoard's files."""
    folder = contents.folder
    text = "\n".join(markdown.lines(contents)) + "\n"
    for name, content in {"report.md": text, "report.json": as_json.text(contents)}.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    for index, conversion in contents.ranked:
        pictures.write(contents, index, conversion)
    if contents.evaluation.conditions:
        pictures.write_robustness(folder, contents.evaluation.conditions)
    for earlier in folder.glob("events.out.tfevents.*"):  # from an earlier merge of parts
        earlier.unlink(missing_ok=True)
    with SummaryWriter(str(folder)) as writer:
        tensorboard.show(contents, writer, text)


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
