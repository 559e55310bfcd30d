"""Messages between a program and the live server over a WebSocket."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from vc_lightning.audio import io as audio
from vc_lightning.common.errors import InputError

FORMATS = {"float32": "<f4", "int16": "<i2"}  # raw PCM, mono, little-endian
INT16_SCALE = 32_768
MAX_REASON_BYTES = 123  # of a close frame
POLICY, UNSUPPORTED, INVALID, BUSY = 1008, 1003, 1007, 1013  # close codes of RFC 6455


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
        token: Token that the server requires if other computers reach it.
    """

    rate: int
    format: str
    voice: str | None = None
    speaker: str | None = None
    block: float | None = None
    token: str | None = None


def read_hello(message: str | bytes) -> Hello:
    """Read a client's first message.

    Args:
        message: Text: a JSON object with the keys of `Hello`.

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
        raise ProtocolError(POLICY, f"format={given}: is none of {', '.join(FORMATS)}")
    for key in ("voice", "speaker", "token"):
        if not isinstance(values.get(key), str | None):
            raise ProtocolError(POLICY, f"{key}={_shown(values[key])}: give text or null")
    block = values.get("block")
    if isinstance(block, bool) or not isinstance(block, int | float | None):
        raise ProtocolError(POLICY, f"block={_shown(block)}: give seconds or null")
    return Hello(**values)


def is_end(message: str) -> bool:
    """Tell whether a text message ends the sound.

    Args:
        message: Text after the first message; only `{"end": true}` is valid.

    Raises:
        ProtocolError: The message is something else.
    """
    if _json_object(message) == {"end": True}:
        return True
    raise ProtocolError(POLICY, 'after the first message send sound, or {"end": true}')


def decode(message: bytes, name: str) -> np.ndarray:
    """Decode the samples of a binary message.

    Args:
        message: Raw PCM.
        name: Its format, a key of `FORMATS`.

    Returns:
        float32 (n,).

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
    """Encode samples as a binary message; int16 clips samples above full scale.

    Args:
        samples: float32 (n,).
        name: The format, a key of `FORMATS`.
    """
    if name == "int16":
        samples = np.clip(np.rint(samples * INT16_SCALE), -INT16_SCALE, INT16_SCALE - 1)
    return samples.astype(FORMATS[name]).tobytes()


def reason(sentence: str) -> str:
    """Shorten a sentence to the length that a close frame allows."""
    encoded = sentence.encode()
    if len(encoded) <= MAX_REASON_BYTES:
        return sentence
    return encoded[: MAX_REASON_BYTES - 3].decode(errors="ignore") + "…"


def of_input_error(error: InputError) -> ProtocolError:
    """Turn an input error into an answer to a client."""
    return ProtocolError(POLICY, str(error))


def _json_object(message: str | bytes) -> dict[str, Any]:
    if isinstance(message, bytes):
        raise ProtocolError(UNSUPPORTED, "the first message is binary; send a JSON object as text")
    try:
        values = json.loads(message)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ProtocolError(POLICY, f"{_shown(message)} is no JSON object; send one as text")
    return values


def _shown(value: object) -> str:
    """Make a client's value short and printable."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= 40 else f"{text[:39]}…"
