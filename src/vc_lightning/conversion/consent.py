"""The consent of the person whose voice is learned: a sentence, or a recording of it."""

import contextlib
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from vc_lightning.audio import decoding, io
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import require_file

RECORDING_SUFFIX = ".consent.flac"
SAMPLE_RATE = 16_000  # Hz, of stored recordings
MAX_SECONDS = 60
MAX_LETTERS = 1000


@dataclass(frozen=True)
class Consent:
    """The stored consent of a speaker.

    Attributes:
        text: The written sentence; "" if the consent is spoken.
        given: Date on which it was stored.
        seconds: Length of the recording; 0 if the consent is written.
        sha256: Hash of the recording's file; "" if the consent is written.
        recording: The recording's file; None if the consent is written.
    """

    text: str
    given: str
    seconds: float = 0.0
    sha256: str = ""
    recording: Path | None = None

    def __str__(self) -> str:
        """Describe the consent in a few words, for lists."""
        if self.text:
            return f'"{self.text}" ({self.given})'
        missing = "" if self.recording and self.recording.is_file() else ", which is missing"
        return f"spoken, {self.seconds:.1f} s ({self.given}): {self.recording}{missing}"


@dataclass(frozen=True)
class Statement:
    """Consent before it is stored with a voice.

    Attributes:
        text: The written sentence; "" if the consent is spoken.
        wav: The spoken sentence, float32 (n,) at `SAMPLE_RATE`; None if the consent is written.
        given: Date of the consent.
    """

    text: str
    wav: np.ndarray | None
    given: str


def today() -> str:
    """Return the date in UTC, as 2026-11-24."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def read_statement(value: str) -> Statement:
    """Read a speaker's consent.

    Args:
        value: The path of a recording, or the sentence itself.

    Raises:
        InputError: The recording cannot be used, or the sentence is empty, too long or not
            printable.
    """
    path = Path(value)
    is_path = path.suffix.partition("?")[0].lower() in decoding.AUDIO_SUFFIXES
    with contextlib.suppress(OSError, ValueError):  # of a sentence that is too long for a name
        is_path = is_path or decoding.split_address(path)[0].is_file()
    if not is_path:
        return Statement(require_words(value, "consent"), None, today())
    wav, sample_rate = io.load(path)
    seconds = len(wav) / sample_rate
    if seconds > MAX_SECONDS:
        raise InputError(f"consent={value}: lasts {seconds:.0f} s; give at most {MAX_SECONDS} s")
    return Statement("", io.resample(wav, sample_rate, SAMPLE_RATE), today())


def require_words(text: str, key: str) -> str:
    """Return a text of one line without spaces at its ends.

    Args:
        text: The text.
        key: Name of the text in error messages.

    Raises:
        InputError: It is empty, longer than `MAX_LETTERS`, or holds control characters.
    """
    text = text.strip()
    if not text or len(text) > MAX_LETTERS or not text.isprintable():
        raise InputError(f"{key}: give one line of 1 to {MAX_LETTERS} printable characters")
    return text


def store(statement: Statement, path: Path) -> Consent:
    """Store a statement.

    Args:
        statement: The statement.
        path: File for its recording, if it has one.

    Returns:
        The consent, as it is kept with the voice.
    """
    if statement.wav is None:
        return Consent(statement.text, statement.given)
    io.save(path, statement.wav, SAMPLE_RATE, {"comment": "Consent to the use of a voice"})
    seconds = round(len(statement.wav) / SAMPLE_RATE, 1)
    return Consent("", statement.given, seconds, _digest(path), path)


def restate(consent: Consent) -> Statement:
    """Return a stored consent as a statement, to be stored elsewhere.

    Raises:
        InputError: Its recording is missing, or was changed.
    """
    if consent.recording is None:
        return Statement(consent.text, None, consent.given)
    if _digest(require_file(consent.recording)) != consent.sha256:
        raise InputError(f"{consent.recording}: is not the stored consent; give consent= again")
    wav, sample_rate = io.load(consent.recording)
    return Statement("", io.resample(wav, sample_rate, SAMPLE_RATE), consent.given)


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
