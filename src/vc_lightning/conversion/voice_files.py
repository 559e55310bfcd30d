"""Share learned voices as safetensors files.

A file holds the tensors `embedding` (dim_emb,), `pitch` (centre, spread) if it is known, and
`consent`, a recording (n,) of 16-bit samples at 16 kHz, if the speaker gave one. Its header says
who made the voice, under which licence, and with which speaker encoder.
"""

import json
import math
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vc_lightning.audio.pitch import FMAX_HZ, FMIN_HZ, PitchRange
from vc_lightning.audio.voice_activity import INT16_MAX
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import atomic_path, require_file
from vc_lightning.conversion import consent as consents
from vc_lightning.conversion import voice_library
from vc_lightning.conversion.consent import Statement
from vc_lightning.conversion.voice_library import Learned
from vc_lightning.conversion.voices.voice import Voice
from vc_lightning.models.checkpoints import require_same_encoder

SUFFIX = ".safetensors"
KEY = "vc_lightning_voice"
MAX_BYTES = 4_000_000  # a minute of consent takes 1.9 MB
MAX_HEADER_BYTES = 50_000
MAX_DIM = 4096
LENGTH_TOLERANCE = 1e-3  # of an embedding of unit length
TEXTS = ("name", "speaker_encoder", "learned", "made_by", "licence")
OPTIONAL_TEXTS = ("made_by", "licence")


def export(learned: Learned, statement: Statement | None, path: Path) -> Path:
    """Write a voice as a file that others can import.

    Args:
        learned: The voice.
        statement: Consent of the speaker.
        path: The file.

    Returns:
        path.

    Raises:
        InputError: There is no consent, or the file exists.
    """
    if statement is None:
        raise InputError(
            f"export {learned.name}: a voice is shared only with its speaker's consent; add "
            'consent="I, …, agree that …" or a recording of it'
        )
    if path.exists():
        raise InputError(f"output={path}: exists already; name another file")
    tensors = {"embedding": learned.voice.embedding.astype(np.float32)}
    if learned.voice.pitch is not None:
        pitch = learned.voice.pitch
        tensors["pitch"] = np.array([pitch.centre, pitch.spread], dtype=np.float64)
    if statement.wav is not None:
        tensors["consent"] = np.round(statement.wav.clip(-1, 1) * INT16_MAX).astype(np.int16)
    header = {key: getattr(learned, key) for key in TEXTS} | {
        "n_recordings": learned.n_recordings,
        "seconds": learned.seconds,
        "consent": statement.text,
        "consent_given": statement.given,
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={KEY: json.dumps(header)})
    return path


def add(folder: Path, path: Path, name: str | None, speaker_encoder: str) -> Learned:
    """Add the voice in a file to the learned voices.

    Args:
        folder: The folder of the voices.
        path: The file.
        name: Name for the voice; None for the one in the file.
        speaker_encoder: Identity of the speaker encoder that conversions use.

    Returns:
        The voice.

    Raises:
        InputError: The file is damaged or not a voice, another speaker encoder made it, or there is
            a voice of this name.
    """
    voice, header, statement = read(path)
    require_same_encoder(header["speaker_encoder"], speaker_encoder, str(path))
    name = name or header["name"]
    if voice_library.path_of(folder, name).exists():
        raise InputError(
            f"import {path}: there is a voice {name} already; give another name by name=…"
        )
    voice_library.save(
        folder,
        name,
        voice,
        header["speaker_encoder"],
        header["n_recordings"],
        header["seconds"],
        learned=header["learned"],
        made_by=header["made_by"],
        licence=header["licence"],
        consent=statement,
    )
    return voice_library.load(folder, name)


def read(path: Path) -> tuple[Voice, dict, Statement | None]:
    """Read the file of a shared voice.

    Args:
        path: The file.

    Returns:
        The voice, the header's entries, and the speaker's consent.

    Raises:
        InputError: The file is missing, damaged, not a voice, or holds values that no voice has.
    """
    size = require_file(path).stat().st_size
    if size > MAX_BYTES:
        raise InputError(f"{path}: has {size} bytes; a voice has at most {MAX_BYTES}")
    try:
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > MAX_HEADER_BYTES:
                raise ValueError("its header is too long")
        with safe_open(path, "np") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            header = _header(json.loads((file.metadata() or {}).get(KEY, "null")))
        voice = Voice(
            _embedding(tensors.pop("embedding"), header["speaker_encoder"]),
            _pitch(tensors.pop("pitch", None)),
        )
        statement = _statement(tensors.pop("consent", None), header)
        if tensors:
            raise ValueError(f"it has an unknown tensor {next(iter(tensors))!r}")
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: is not a shared voice ({error}); get it again") from error
    return voice, header, statement


def _header(header: object) -> dict:
    """Return a header whose values are of the right types and lengths."""
    if not isinstance(header, dict):
        raise ValueError("its header describes no voice")
    for key in (*TEXTS, "consent", "consent_given"):
        text = header[key]
        if not isinstance(text, str):
            raise ValueError(f"{key} in its header is no text")
        if text or key not in (*OPTIONAL_TEXTS, "consent", "consent_given"):
            consents.require_words(text, f"{key} in its header")
    n, seconds = header["n_recordings"], header["seconds"]
    if not isinstance(n, int) or not 1 <= n < 10**9:
        raise ValueError("n_recordings in its header is no count")
    if not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:  # NaN, too
        raise ValueError("seconds in its header is no length")
    return header


def _embedding(embedding: np.ndarray, speaker_encoder: str) -> np.ndarray:
    """Return an embedding that a speaker encoder can have made."""
    if embedding.dtype != np.float32 or embedding.ndim != 1 or not 1 <= len(embedding) <= MAX_DIM:
        raise ValueError(f"its embedding is {embedding.dtype} {embedding.shape}")
    length = float(np.linalg.norm(embedding.astype(np.float64)))
    if not math.isfinite(length):
        raise ValueError("its embedding is not finite")
    is_unit = abs(length - 1) < LENGTH_TOLERANCE
    if not (is_unit or (speaker_encoder.startswith("d_vector") and 0 < length <= 1)):
        raise ValueError(f"its embedding has the length {length:.3g}, not 1")
    return embedding


def _pitch(pitch: np.ndarray | None) -> PitchRange | None:
    """Return a pitch range that a person can have."""
    if pitch is None:
        return None
    if pitch.dtype != np.float64 or pitch.shape != (2,):
        raise ValueError(f"its pitch is {pitch.dtype} {pitch.shape}")
    centre, spread = pitch.tolist()
    low, high = math.log2(FMIN_HZ) - 0.01, math.log2(FMAX_HZ) + 0.01  # rounded to float32
    if not (low <= centre <= high and 0 <= spread <= high - low):  # NaN, too
        raise ValueError(f"its pitch is 2^{centre:g} Hz with a spread of {spread:g} octaves")
    return PitchRange(centre, spread)


def _statement(wav: np.ndarray | None, header: dict) -> Statement | None:
    """Return the speaker's consent, if there is one."""
    if wav is None:
        text = header["consent"]
        return Statement(text, None, header["consent_given"]) if text else None
    longest = consents.MAX_SECONDS * consents.SAMPLE_RATE
    if wav.dtype != np.int16 or wav.ndim != 1 or not 1 <= len(wav) <= longest:
        raise ValueError(f"its consent is {wav.dtype} {wav.shape}")
    return Statement("", wav.astype(np.float32) / INT16_MAX, header["consent_given"])
