"""LibriSpeech, LibriTTS and LibriTTS-R: readers of English audiobooks, in official splits.

The folders are `train-clean-100/SPEAKER/CHAPTER/`; their recordings are flac with one table of
texts per chapter (LibriSpeech), or wav with a text file each (LibriTTS).
"""

from pathlib import Path

from vc_lightning.data.corpora.recordings import (
    LeftOut,
    Listed,
    Recording,
    read_text,
    require_folder,
    sex,
    split_of,
)

PARTS = "*-*/*/*/"  # such as dev-clean/84/121123/


def read_librispeech(root: Path, licence: str) -> Listed:
    """List the recordings of LibriSpeech as unpacked, with any of its parts.

    Raises:
        InputError: The folder is not LibriSpeech.
    """
    folder = require_folder(Path(root), "LibriSpeech", f"{PARTS}*.flac")
    sexes = _sexes(folder)
    for chapter in sorted(folder.glob(PARTS)):
        texts: dict[str, str] = {}
        for table in chapter.glob("*.trans.txt"):
            lines = read_text(table).splitlines()
            texts |= dict(line.split(" ", 1) for line in lines if " " in line)
        for path in sorted(chapter.glob("*.flac")):
            yield _recording(path, folder, sexes, texts.get(path.stem, ""), licence)


def read_libritts(root: Path, licence: str) -> Listed:
    """List the recordings of LibriTTS or LibriTTS-R as unpacked, with their normalised texts.

    Raises:
        InputError: The folder is not LibriTTS.
    """
    folder = require_folder(Path(root), "LibriTTS", f"{PARTS}*.wav")
    sexes = _sexes(folder)
    for path in sorted(folder.glob(f"{PARTS}*.wav")):
        text = read_text(path.with_suffix(".normalized.txt"))
        yield _recording(path, folder, sexes, text, licence)


def _recording(
    path: Path, folder: Path, sexes: dict[str, str], text: str, licence: str
) -> Recording | LeftOut:
    part, speaker = path.relative_to(folder).parts[:2]
    split = split_of(part)
    if not split:
        return LeftOut("are in a folder that is not part of the corpus", f"{part}/{path.name}")
    return Recording(path, speaker, split, "en", sexes.get(speaker, ""), text, licence)


def _sexes(folder: Path) -> dict[str, str]:
    """Read the sex of each reader from SPEAKERS.txt ("84 | F | …") or speakers.tsv."""
    known: dict[str, str] = {}
    for path in folder.iterdir():
        if path.name.lower() in ("speakers.txt", "speakers.tsv"):
            separator = "\t" if path.suffix == ".tsv" else "|"
            lines = read_text(path).splitlines()
            rows = (line.split(separator) for line in lines if line[:1] != ";")
            known |= {row[0].strip(): sex(row[1]) for row in rows if len(row) > 1}
    return known
