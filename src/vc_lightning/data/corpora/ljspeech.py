"""The LJ Speech Dataset: one reader of English books."""

from pathlib import Path

from vc_lightning.data.corpora.recordings import (
    LeftOut,
    Listed,
    Recording,
    read_text,
    require_folder,
)

SPEAKER, SEX = "LJ", "F"


def read(root: Path, licence: str) -> Listed:
    """List the recordings of LJ Speech as unpacked, with their normalised texts.

    Raises:
        InputError: The folder is not LJ Speech.
    """
    folder = require_folder(Path(root), "LJ Speech", "metadata.csv")
    named = set()
    for line in read_text(folder / "metadata.csv").splitlines():
        name, *texts = line.split("|")  # as written, normalised
        path = folder / "wavs" / f"{name}.wav"
        named.add(path)
        if path.is_file():
            yield Recording(path, SPEAKER, "", "en", SEX, texts[-1] if texts else "", licence)
        else:
            yield LeftOut("are in metadata.csv but not in wavs/", name)
    for path in sorted(set(folder.glob("wavs/*.wav")) - named):
        yield LeftOut("are not in metadata.csv", path.name)
