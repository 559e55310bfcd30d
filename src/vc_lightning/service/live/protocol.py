"""The messages of live speech over a WebSocket; the page and all other clients speak them.

The client sends one JSON object (`Hello`), then binary messages with sound of any length, at last
`{"end": true}`. The server answers the first message with a JSON object, then sends sound; sample n
of the answer is the conversion of sample n of the client. It closes with code 1000 after the rest,
or sends `{"error": sentence}` and closes with one of the codes below.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from vc_lightning.audio.files import io as audio

FORMATS = {"float32": "<f4", "int16": "<i2"}  # raw PCM, mono, little-endian
INT16_SCALE = 32_768
MAX_REASON_BYTES = 123  # of a close frame
# Close codes of RFC 6455.
NORMAL, GOING_AWAY, UNSUPPORTED, INVALID, POLICY, BUSY = 1000, 1001, 1003, 1007, 1008, 1013


class ProtocolError(Exception):
    """Refuses a message with one sentence and a close code.

    Args:
        code: The close code.
        sentence: The problem, and what to send instead.
    """

    def __init__(self, code: int, sentence: str):
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


@dataclass(frozen=True)
class Hello:
    """First message of a client.

    Attributes:
        rate: Sample rate in both directions, in Hz.
        format: A key of `FORMATS`.
        voice: Name of a learned voice; None for the server's target.
        speaker: Name of the speaker's learned voice; None: the stream estimates it.
        block: Length of a step in seconds; None for the server's.
        token: A key of the server, for clients that cannot send it in a header.
        ticket: Ticket for a voice that was chosen on the page; replaces `voice`.
        wait: Whether to wait for a free place. Meanwhile the server sends `{"wait": sentence}`.
        skip: Whether to skip sound that came more than a second before its conversion. The server
            then sends `{"skipped": samples}`. Else TCP slows the client down.
    """

    rate: int
    format: str
    voice: str | None = None
    speaker: str | None = None
    block: float | None = None
    token: str | None = None
    ticket: str | None = None
    wait: bool = False
    skip: bool = False


def read_hello(message: str | bytes) -> Hello:
    """Read a client's first message: text, a JSON object with the keys of `Hello`.

    Raises:
        ProtocolError: The message is something else.
    """
    values = _json_object(message)
    wanted = '{"rate": 48000, "format": "float32"}'
    unknown = values.keys() - Hello.__dataclass_fields__.keys()
    if unknown:
        raise ProtocolError(POLICY, f"the first message has unknown keys: {_shown(min(unknown))}")
    if missing := {"rate", "format"} - values.keys():
        raise ProtocolError(POLICY, f"the first message lacks {min(missing)}; send {wanted}")
    rate, low, high = values["rate"], audio.MIN_SAMPLE_RATE, audio.MAX_SAMPLE_RATE
    if isinstance(rate, bool) or not isinstance(rate, int) or not low <= rate <= high:
        raise ProtocolError(POLICY, f"rate={_shown(rate)}: give an integer from {low} to {high}")
    if not isinstance(values["format"], str) or values["format"] not in FORMATS:
        given = _shown(values["format"])
        raise ProtocolError(POLICY, f"format={given}: choose one of {', '.join(FORMATS)}")
    for key in ("wait", "skip"):
        if not isinstance(values.get(key, False), bool):
            raise ProtocolError(POLICY, f"{key}={_shown(values[key])}: give true or false")
    for key in ("voice", "speaker", "token", "ticket"):
        if not isinstance(values.get(key), str | None):
            raise ProtocolError(POLICY, f"{key}={_shown(values[key])}: give text or null")
    block = values.get("block")
    if isinstance(block, bool) or not isinstance(block, int | float | None):
        raise ProtocolError(POLICY, f"block={_shown(block)}: give seconds or null")
    return Hello(**values)


def require_end(message: str) -> None:
    """Check that a text message after the first one ends the sound: `{"end": true}`.

    Raises:
        ProtocolError: The message is something else.
    """
    if _json_object(message) != {"end": True}:
        raise ProtocolError(POLICY, 'after the first message send sound, or {"end": true}')


def decode(message: bytes, name: str) -> np.ndarray:
    """Decode the samples, float32 (n,), of a binary message in a format of `FORMATS`.

    Raises:
        ProtocolError: The message is not made of whole samples.
    """
    dtype = np.dtype(FORMATS[name])
    if len(message) % dtype.itemsize:
        raise ProtocolError(
            INVALID,
            f"a block has {len(message)} bytes; {name} takes {dtype.itemsize} bytes a sample",
        )
    samples = np.frombuffer(message, dtype).astype(np.float32)
    return samples / INT16_SCALE if name == "int16" else samples


def encode(samples: np.ndarray, name: str) -> bytes:
    """Encode float32 samples (n,) in a format of `FORMATS`; int16 clips those above full scale."""
    if name == "int16":
        samples = np.clip(np.rint(samples * INT16_SCALE), -INT16_SCALE, INT16_SCALE - 1)
    return samples.astype(FORMATS[name]).tobytes()


def reason(sentence: str) -> str:
    """Shorten a sentence to the length that a close frame allows."""
    encoded = sentence.encode()
    if len(encoded) <= MAX_REASON_BYTES:
        return sentence
    return encoded[: MAX_REASON_BYTES - 3].decode(errors="ignore") + "…"


def _json_object(message: str | bytes) -> dict[str, Any]:
    if isinstance(message, bytes):
        raise ProtocolError(UNSUPPORTED, "the first message is binary; send a JSON object as text")
    try:
        values = json.loads(message)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ProtocolError(POLICY, f"{_shown(message)} is not a JSON object; send one as text")
    return values


def _shown(value: object) -> str:
    """Make a client's value short and printable."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= 40 else f"{text[:39]}…"
