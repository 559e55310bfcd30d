"""The file of a voice, learned here or shared by others: safetensors, and the JSON of 0.3.

A file holds the tensors `embedding` (dim_emb,), `pitch` (centre, spread) if it is known,
`reference` (R, D) in float16, if the network uses one, and `consent`, a recording (n,) of 16-bit
samples at 16 kHz, if the speaker spoke it. Its header says who made the voice, under which licence,
with which speaker encoder, and with which network its reference.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vc_lightning.audio.files import io
from vc_lightning.audio.pitch import FMAX_HZ, FMIN_HZ, PitchRange
from vc_lightning.audio.voice_activity import INT16_MAX
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import atomic_path, read_json, require_file
from vc_lightning.conversion.voices import consent as consents
from vc_lightning.conversion.voices.consent import Consent
from vc_lightning.conversion.voices.voice import Voice

SUFFIX = ".safetensors"
KEY = "vc_lightning_voice"
MAX_BYTES = 4_000_000  # a minute of consent takes 1.9 MB
MAX_HEADER_BYTES = 50_000
MAX_DIM = 4096
MAX_FRAMES = 20_000  # of a reference
LENGTH_TOLERANCE = 1e-3  # of an embedding of unit length
TEXTS = ("name", "speaker_encoder", "learned", "made_by", "licence", "network")
OPTIONAL_TEXTS = ("made_by", "licence", "network")


@dataclass(frozen=True)
class LearnedVoice:
    """A voice with a name.

    Attributes:
        name: Its name.
        voice: Embedding, pitch range and reference.
        speaker_encoder: Identity of the speaker encoder that made the embedding.
        n_recordings: Number of recordings that it was learned from.
        seconds: Their length together.
        learned: Date on which it was learned.
        made_by: Who learned it; "" if unknown.
        licence: Terms of its use; "" if none are stated.
        consent: Consent of the speaker; None if none was stored.
        network: The weights that made the voice's reference, see `provenance.fingerprint`; "" if it
            has none.
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
    network: str = ""


def write(learned: LearnedVoice, path: Path) -> Path:
    """Write a voice and return the path; an existing file is replaced as a whole."""
    tensors = {"embedding": learned.voice.embedding.astype(np.float32)}
    pitch, consent = learned.voice.pitch, learned.consent
    if pitch is not None:
        tensors["pitch"] = np.array([pitch.centre, pitch.spread], dtype=np.float64)
    if learned.voice.reference is not None:
        tensors["reference"] = learned.voice.reference.astype(np.float16)
    if consent is not None and consent.wav is not None:
        tensors["consent"] = np.round(consent.wav.clip(-1, 1) * INT16_MAX).astype(np.int16)
    header = {key: getattr(learned, key) for key in TEXTS} | {
        "n_recordings": learned.n_recordings,
        "seconds": learned.seconds,
        "consent": consent.text if consent else "",
        "consent_given": consent.given if consent else "",
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={KEY: json.dumps(header)})
    return path


def read(path: Path) -> LearnedVoice:
    """Read a voice.

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
            _reference(tensors.pop("reference", None), header["network"]),
        )
        consent = _consent(tensors.pop("consent", None), header)
        if tensors:
            raise ValueError(f"it has an unknown tensor {next(iter(tensors))!r}")
    except (SafetensorError, OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: is not a voice ({error}); get it again") from error
    texts = {key: header[key] for key in (*TEXTS, "n_recordings", "seconds")}
    return LearnedVoice(voice=voice, consent=consent, **texts)


def read_of_0_3(path: Path, recording: Path, name: str) -> LearnedVoice:
    """Read a learned voice of version 0.3 and before: a JSON file, and that of a spoken consent.

    Raises:
        InputError: A file is damaged.
    """
    try:
        content = read_json(path)
        pitch = content["pitch"]
        embedding = np.array(content["embedding"], dtype=np.float32)
        encoder = str(content["speaker_encoder"])
        return LearnedVoice(
            name=name,
            voice=Voice(
                _embedding(embedding, encoder),
                pitch and _pitch(np.array([pitch["centre"], pitch["spread"]], dtype=np.float64)),
            ),
            speaker_encoder=encoder,
            n_recordings=int(content["n_recordings"]),
            seconds=float(content["seconds"]),
            learned=str(content["learned"]),
            made_by=str(content.get("made_by", "")),  # voices before 0.3 have none of these
            licence=str(content.get("licence", "")),
            consent=_consent_of_0_3(content.get("consent"), recording),
        )
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: is not a learned voice ({error}); learn it again") from error


def _header(header: object) -> dict:
    """Return a header whose values are of the right types and lengths."""
    if not isinstance(header, dict):
        raise ValueError("its header does not describe a voice")
    header.setdefault("network", "")  # voices before 0.4 have none
    for key in (*TEXTS, "consent", "consent_given"):
        text = header[key]
        if not isinstance(text, str):
            raise ValueError(f"{key} in its header is not text")
        if text or key not in (*OPTIONAL_TEXTS, "consent", "consent_given"):
            consents.require_words(text, f"{key} in its header")
    n, seconds = header["n_recordings"], header["seconds"]
    if not isinstance(n, int) or not 1 <= n < 10**9:
        raise ValueError("n_recordings in its header is not a count")
    if not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:  # NaN, too
        raise ValueError("seconds in its header is not a duration")
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


def _reference(frames: np.ndarray | None, network: str) -> np.ndarray | None:
    """Return a reference that a network can have made."""
    if frames is None:
        return None
    n_frames, dim = frames.shape if frames.ndim == 2 else (0, 0)
    if frames.dtype != np.float16 or not (1 <= n_frames <= MAX_FRAMES and 1 <= dim <= MAX_DIM):
        raise ValueError(f"its reference is {frames.dtype} {frames.shape}")
    if not np.isfinite(frames).all():
        raise ValueError("its reference is not finite")
    if not network:
        raise ValueError("its header does not name the network of its reference")
    return frames.astype(np.float32)


def _consent(wav: np.ndarray | None, header: dict) -> Consent | None:
    """Return the speaker's consent, if there is one."""
    if wav is None:
        text = header["consent"]
        return Consent(text, header["consent_given"]) if text else None
    longest = consents.MAX_SECONDS * consents.SAMPLE_RATE
    if wav.dtype != np.int16 or wav.ndim != 1 or not 1 <= len(wav) <= longest:
        raise ValueError(f"its consent is {wav.dtype} {wav.shape}")
    return Consent("", header["consent_given"], wav.astype(np.float32) / INT16_MAX)


def _consent_of_0_3(content: dict | None, recording: Path) -> Consent | None:
    """Return the consent of an old file, whose recording is a file of its own."""
    if content is None:
        return None
    text, given, sha256 = (str(content[key]) for key in ("text", "given", "sha256"))
    if not sha256:
        return Consent(text, given)
    with recording.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise ValueError(f"{recording.name} is not its stored consent")
    wav, sample_rate = io.load(recording)
    return Consent("", given, io.resample(wav, sample_rate, consents.SAMPLE_RATE))
