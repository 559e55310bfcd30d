"""What the reader of a corpus yields: recordings, and what it leaves out with the reason."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vc_lightning.common.errors import InputError

SEXES = {  # spellings of corpora, in lower case
    "f": "F",
    "female": "F",
    "female_feminine": "F",
    "m": "M",
    "male": "M",
    "male_masculine": "M",
}


SPLITS = {  # words in names of splits
    "train": "train",
    "training": "train",
    "dev": "val",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "eval": "test",
    "test": "test",
}


@dataclass(frozen=True)
class Recording:
    """A recording of a corpus: one row of a manifest.

    Attributes:
        path: The audio file, or an address inside a file; see `audio.containers`.
        speaker: Name of the speaker.
        split: "train", "val" or "test"; "" where the corpus names none.
        lang: Language, such as "en" or "pt-BR"; "" where unknown.
        sex: "F" or "M"; "" where unknown.
        text: What is said; "" where unknown.
        licence: Licence of the recording; "" where unknown.
        seconds: Length; None until it is measured.
    """

    path: Path
    speaker: str
    split: str = ""
    lang: str = ""
    sex: str = ""
    text: str = ""
    licence: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class LeftOut:
    """Recordings that a corpus holds and its manifest does not.

    Attributes:
        reason: Why, to be followed by an example.
        example: A file, an identifier or a line; "" for none.
        count: Number of recordings.
    """

    reason: str
    example: str
    count: int = 1


Listed = Iterator[Recording | LeftOut]


def sex(word: str | None) -> str:
    """Return "F", "M" or "" for a corpus's word."""
    return SEXES.get((word or "").strip().lower(), "")


def split_of(name: str) -> str:
    """Return the split that a name means, such as "train" for "train-clean-100"; "" for none."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "")


def read_text(path: Path) -> str:
    """Read a text, or a corpus's own table; "" where there is none.

    Raises:
        InputError: The file is not UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text ({error})") from error


def require_folder(root: Path, corpus: str, holds: str) -> Path:
    """Find the folder of a corpus: `root`, or a folder in it.

    Args:
        root: What the user gave.
        corpus: Name of the corpus, for the message.
        holds: Pattern of what every copy of the corpus holds, such as "metadata.csv".

    Raises:
        InputError: There is no such folder, or it holds something else.
    """
    if not root.is_dir():
        raise InputError(f"root={root}: there is no such folder")
    for folder in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
        if next(folder.glob(holds), None) is not None:
            return folder
    raise InputError(
        f"root={root}: is not {corpus} as unpacked, which holds {holds}; name the folder with it"
    )
