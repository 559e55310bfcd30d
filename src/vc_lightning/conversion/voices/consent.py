"""The consent of the person whose voice is learned: a sentence, or a recording of it."""

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from vc_lightning.audio.files import decoding, io
from vc_lightning.common.errors import InputError

SAMPLE_RATE = 16_000  # Hz, of recordings
MAX_SECONDS = 60
MAX_LETTERS = 1000


@dataclass(frozen=True)
class Consent:
    """The consent of a speaker.

    Attributes:
        text: The written sentence; "" if the consent is spoken.
        given: Date on which it was given.
        wav: The spoken sentence, float32 (n,) at `SAMPLE_RATE`; None if the consent is written.
    """

    text: str
    given: str
    wav: np.ndarray | None = None

    @property
    def seconds(self) -> float:
        """Length of the recording; 0 if the consent is written."""
        return 0.0 if self.wav is None else len(self.wav) / SAMPLE_RATE

    def __str__(self) -> str:
        """Describe the consent in a few words, for lists."""
        if self.wav is None:
            return f'"{self.text}" ({self.given})'
        return f"spoken, {self.seconds:.1f} s ({self.given})"


def today() -> str:
    """Return the date in UTC, as 2026-11-24."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def read(value: str) -> Consent:
    """Read a speaker's consent, given today.

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
        return Consent(require_words(value, "consent"), today())
    wav, sample_rate = io.load(path)
    seconds = len(wav) / sample_rate
    if seconds > MAX_SECONDS:
        raise InputError(f"consent={value}: lasts {seconds:.0f} s; give at most {MAX_SECONDS} s")
    return Consent("", today(), io.resample(wav, sample_rate, SAMPLE_RATE))


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
