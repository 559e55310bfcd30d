"""What `target=` and `speaker=` name: recordings, or a learned voice."""

from collections.abc import Sequence
from pathlib import Path

from vc_lightning.audio.files import io
from vc_lightning.commands.support import paths
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import expand_user
from vc_lightning.conversion.voices.shelf import VoiceShelf
from vc_lightning.conversion.voices.voice import Target

NO_RECORDINGS = "give recordings: source=FILE target=FILE; --help has more"


def target_of(value: str | Sequence[str] | None, folder: Path, key: str = "target") -> Target:
    """Find the recordings, or the learned voice, that a key names.

    Args:
        value: Value of the key.
        folder: Folder of the learned voices.
        key: Name of the key in error messages.

    Raises:
        InputError: There is no such file, and no learned voice of this name.
    """
    if not value:
        raise InputError(NO_RECORDINGS)
    if isinstance(value, str) and not Path(value).exists() and value in VoiceShelf(folder).names():
        return value
    found = paths.existing_paths(value, key, io.AUDIO_SUFFIXES)
    if found == [expand_user(str(value))] and not io.split_address(found[0])[0].exists():
        raise InputError(
            f"{key}={value}: there is no such file, and no learned voice of this name; "
            f"{resources.command('voices')} list names them"
        )
    return tuple(found)


def as_voice(target: tuple[Path, ...], known: set[str]) -> Target:
    """Replace a table's path by a learned voice's name where no such file exists."""
    path = target[0]
    return path.name if len(target) == 1 and not path.exists() and path.name in known else target
