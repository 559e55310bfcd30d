"""Learned voices: small files with the embedding and pitch range of a speaker."""

import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vc_lightning.audio.pitch import PitchRange
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import read_json, write_json
from vc_lightning.conversion import consent as consents
from vc_lightning.conversion.consent import Consent, Statement
from vc_lightning.conversion.voices.voice import Voice
from vc_lightning.models.checkpoints import require_same_encoder

SUFFIX = ".voice.json"


@dataclass(frozen=True)
class Learned:
    """A voice with a name.

    Attributes:
        name: Its name.
        voice: Embedding and pitch range.
        speaker_encoder: Identity of the speaker encoder that made the embedding.
        n_recordings: Number of recordings that it was learned from.
        seconds: Their length together.
        learned: Date on which it was learned.
        made_by: Who learned it; "" if unknown.
        licence: Terms of its use; "" if none are stated.
        consent: Consent of the speaker; None if none was stored.
    """

    name: str
    voice: Voice
    speaker_encoder: str
    n_recordings: int
    seconds: float
    learned: str
    made_by: str = ""
    licence: str = ""
    consent: Consent | None = None


def path_of(folder: Path, name: str) -> Path:
    """Return the file of a voice.

    Args:
        folder: The folder of the voices.
        name: The voice's name.

    Raises:
        InputError: The name has characters that a file's name may not have, or too many.
    """
    if not re.fullmatch(r"\w[\w .-]{0,63}", name):
        raise InputError(
            f"voice {name!r}: name it by 1 to 64 letters, digits, spaces, dots, _ and -"
        )
    return folder / f"{name}{SUFFIX}"


def save(
    folder: Path,
    name: str,
    voice: Voice,
    speaker_encoder: str,
    n_recordings: int,
    seconds: float,
    *,
    learned: str | None = None,
    made_by: str = "",
    licence: str = "",
    consent: Statement | None = None,
) -> Path:
    """Write a voice; it replaces one of the same name.

    Args:
        folder: The folder of the voices, created if it is missing.
        name: The voice's name.
        voice: Embedding and pitch range.
        speaker_encoder: Identity of the speaker encoder that made the embedding.
        n_recordings: Number of recordings that it was learned from.
        seconds: Their length together.
        learned: Date on which it was learned; None for today.
        made_by: Who learned it.
        licence: Terms of its use.
        consent: Consent of the speaker.

    Returns:
        The voice's file.
    """
    path = path_of(folder, name)
    folder.mkdir(parents=True, exist_ok=True)
    recording = _recording(folder, name)
    stored = None if consent is None else consents.store(consent, recording)
    content = {
        "embedding": [float(number) for number in voice.embedding],
        "pitch": voice.pitch and asdict(voice.pitch),
        "speaker_encoder": speaker_encoder,
        "n_recordings": n_recordings,
        "seconds": round(seconds, 1),
        "learned": learned or consents.today(),
        "made_by": made_by,
        "licence": licence,
        "consent": stored
        and {key: value for key, value in asdict(stored).items() if key != "recording"},
    }
    write_json(path, content)
    if stored is None or stored.recording is None:
        recording.unlink(missing_ok=True)  # the consent of a replaced voice
    return path


def names(folder: Path) -> list[str]:
    """Return the names of the voices in a folder, sorted."""
    return sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}"))


def load(folder: Path, name: str) -> Learned:
    """Return a voice.

    Args:
        folder: The folder of the voices.
        name: The voice's name.

    Raises:
        InputError: There is no such voice, or its file is damaged.
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
            made_by=str(content.get("made_by", "")),  # voices before 0.3 have none of these
            licence=str(content.get("licence", "")),
            consent=_consent(content.get("consent"), _recording(folder, name)),
        )
    except FileNotFoundError:
        known = ", ".join(names(folder)) or "none"
        raise InputError(f"voice {name}: not learned yet; in {folder} there are: {known}") from None
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: is not a learned voice ({error}); learn it again") from error


def forget(folder: Path, name: str) -> None:
    """Delete a voice, and the spoken consent that is kept with it."""
    _recording(folder, name).unlink(missing_ok=True)
    path_of(folder, name).unlink()


def for_encoder(learned: Learned, speaker_encoder: str) -> Voice:
    """Return a learned voice for a converter.

    Args:
        learned: The voice.
        speaker_encoder: Identity of the converter's speaker encoder.

    Raises:
        InputError: Another speaker encoder made the voice.
    """
    require_same_encoder(learned.speaker_encoder, speaker_encoder, f"voice {learned.name}")
    return learned.voice


def _recording(folder: Path, name: str) -> Path:
    """Return the path of a spoken consent."""
    return folder / f"{name}{consents.RECORDING_SUFFIX}"


def _finite(embedding: np.ndarray) -> np.ndarray:
    """Return an embedding if it is a list of finite numbers."""
    if embedding.ndim != 1 or not len(embedding) or not np.isfinite(embedding).all():
        raise ValueError("its embedding is not a list of finite numbers")
    return embedding


def _range(centre: float, spread: float) -> PitchRange:
    """Return a pitch range if it is finite."""
    if not (math.isfinite(centre) and math.isfinite(spread) and spread >= 0):
        raise ValueError("its pitch is not finite")
    return PitchRange(float(centre), float(spread))


def _consent(content: dict | None, recording: Path) -> Consent | None:
    """Return the consent that a voice's file holds."""
    if content is None:
        return None
    seconds, sha256 = float(content["seconds"]), str(content["sha256"])
    if not math.isfinite(seconds):
        raise ValueError("the length of its consent is not finite")
    return Consent(
        str(content["text"]), str(content["given"]), seconds, sha256, recording if sha256 else None
    )
