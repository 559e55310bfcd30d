"""Learned voices: small files that keep what a conversion takes from somebody's recordings."""

import math
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from vc_lightning.audio.pitch import PitchRange
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import read_json, write_json
from vc_lightning.conversion.recordings import Voice
from vc_lightning.models.checkpoints import require_same_encoder

SUFFIX = ".voice.json"


@dataclass(frozen=True)
class Learned:
    """A voice with a name.

    Attributes: speaker_encoder, the identity of the one that made the embedding; n_recordings and
        seconds, of what was heard; learned, a date.
    """

    name: str
    voice: Voice
    speaker_encoder: str
    n_recordings: int
    seconds: float
    learned: str


def path_of(folder: Path, name: str) -> Path:
    """The file of a voice; InputError for names that are no plain words."""
    if not re.fullmatch(r"\w[\w .-]{0,63}", name):
        raise InputError(
            f"voice {name!r}: name it by 1 to 64 letters, digits, spaces, dots, _ and -"
        )
    return folder / f"{name}{SUFFIX}"


def save(
    folder: Path, name: str, voice: Voice, speaker_encoder: str, n_recordings: int, seconds: float
) -> Path:
    """Writes a voice, which replaces one of that name."""
    path = path_of(folder, name)
    content = {
        "embedding": [float(number) for number in voice.embedding],
        "pitch": voice.pitch and asdict(voice.pitch),
        "speaker_encoder": speaker_encoder,
        "n_recordings": n_recordings,
        "seconds": round(seconds, 1),
        "learned": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, content)
    return path


def names(folder: Path) -> list[str]:
    """The names of the voices in a folder."""
    return sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}"))


def load(folder: Path, name: str) -> Learned:
    """A voice by its name.

    Raises: InputError when there is none, or its file is damaged.
    """
    path = path_of(folder, name)
    try:
        content = read_json(path)
        embedding = np.array(content["embedding"], dtype=np.float32)
        pitch = content["pitch"]
        return Learned(
            name=name,
            voice=Voice(_finite(embedding), pitch and _range(**pitch)),
            speaker_encoder=str(content["speaker_encoder"]),
            n_recordings=int(content["n_recordings"]),
            seconds=float(content["seconds"]),
            learned=str(content["learned"]),
        )
    except FileNotFoundError:
        known = ", ".join(names(folder)) or "none"
        raise InputError(f"voice {name}: not learned yet; in {folder} there are: {known}") from None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: is not a learned voice ({error}); learn it again") from error


def for_encoder(learned: Learned, speaker_encoder: str) -> Voice:
    """The voice, for a converter with that speaker encoder; InputError where it has another."""
    require_same_encoder(learned.speaker_encoder, speaker_encoder, f"voice {learned.name}")
    return learned.voice


def _finite(embedding: np.ndarray) -> np.ndarray:
    if embedding.ndim != 1 or not len(embedding) or not np.isfinite(embedding).all():
        raise ValueError("its embedding is not a list of finite numbers")
    return embedding


def _range(centre: float, spread: float) -> PitchRange:
    if not (math.isfinite(centre) and math.isfinite(spread) and spread >= 0):
        raise ValueError("its pitch is not finite")
    return PitchRange(float(centre), float(spread))
