"""The CSTR VCTK Corpus: 110 speakers of English who read about 400 sentences each.

Version 0.92 holds `wav48_silence_trimmed/p225/p225_001_mic1.flac`, versions before it
`wav48/p225/p225_001.wav`; both hold `txt/p225/p225_001.txt` and `speaker-info.txt`.
"""

import re
from pathlib import Path

from vc_lightning.common.errors import InputError
from vc_lightning.data.corpora.recordings import (
    LeftOut,
    Listed,
    Recording,
    read_text,
    require_folder,
    sex,
)

NAME = re.compile(r"(?P<id>(?P<speaker>[ps]\d+)_\d+)(?:_(?P<microphone>mic[12]))?")


def read(root: Path, microphone: str, licence: str) -> Listed:
    """List the recordings of VCTK.

    Args:
        root: The unpacked corpus.
        microphone: "mic1" or "mic2", of the two that recorded every sentence since version 0.92.
        licence: Its licence.

    Raises:
        InputError: The folder is not VCTK.
    """
    if microphone not in ("mic1", "mic2"):
        raise InputError(f"corpus.microphone={microphone}: give mic1 or mic2")
    folder = require_folder(Path(root), "VCTK", "wav48*/*/")
    sexes = _sexes(folder / "speaker-info.txt")
    for path in sorted(folder.glob("wav48*/*/*")):
        match = NAME.fullmatch(path.stem)
        if match is None or path.suffix not in (".flac", ".wav"):
            yield LeftOut("are not named like recordings of VCTK", path.name)
        elif match["microphone"] not in (None, microphone):
            yield LeftOut(f"are of the other microphone than {microphone}", path.name)
        else:
            speaker = match["speaker"]
            text = read_text(folder / "txt" / speaker / f"{match['id']}.txt")
            yield Recording(path, speaker, "", "en", sexes.get(speaker, ""), text, licence)


def _sexes(path: Path) -> dict[str, str]:
    """Read the sex of each speaker; rows begin with "p225  23  F" or, before 0.92, "225  23  F"."""
    rows = [line.split() for line in read_text(path).splitlines()[1:]]
    known = {row[0]: sex(row[2]) for row in rows if len(row) > 2}
    return known | {f"p{name}": word for name, word in known.items() if name.isdigit()}
