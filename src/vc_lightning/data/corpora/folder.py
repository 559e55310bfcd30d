"""Any folder of recordings: one subfolder per speaker, and texts beside the recordings."""

from pathlib import Path

from vc_lightning.common.errors import InputError
from vc_lightning.data.corpora.recordings import Listed, Recording, read_text
from vc_lightning.data.manifest import find_audio_files

TEXT_SUFFIXES = (".normalized.txt", ".txt", ".lab")  # the first that exists holds the text


def read(root: Path, lang: str, licence: str) -> Listed:
    """List the recordings of a folder.

    Args:
        root: The folder; the speaker is the folder that holds a file, or the file's name in the
            folder itself.
        lang: Language of all recordings, or "".
        licence: Licence of all recordings, or "".

    Raises:
        InputError: The folder is missing or holds no audio.
    """
    try:
        listed = find_audio_files(Path(root))
    except InputError as error:
        raise InputError(str(error).replace("data.dir=", "root=", 1)) from None
    for file in listed:
        texts = (read_text(file.path.with_suffix(suffix)) for suffix in TEXT_SUFFIXES)
        text = next(filter(None, texts), "")
        yield Recording(file.path, file.speaker, "", lang, "", text, licence)
