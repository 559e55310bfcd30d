"""Messages of the live server: samples as bytes, and reasons that fit a close frame."""

import numpy as np
import pytest

from vc_lightning.service.live import protocol


@pytest.mark.parametrize(("name", "error"), [("float32", 0), ("int16", 1 / 65_536)])
def test_samples_come_back_from_their_bytes(name, error):
    samples = np.linspace(-1, 0.99, 101, dtype=np.float32)
    message = protocol.encode(samples, name)
    assert len(message) == 101 * {"float32": 4, "int16": 2}[name]
    assert np.abs(protocol.decode(message, name) - samples).max() <= error


def test_bytes_are_little_endian():
    assert protocol.encode(np.array([0.5], np.float32), "int16") == b"\x00\x40"
    assert protocol.decode(b"\x00\x00\x80\x3f", "float32") == 1


def test_what_int16_can_not_hold_is_clipped_and_never_wraps():
    message = protocol.encode(np.array([1.0, 9.0, -9.0], np.float32), "int16")
    assert np.frombuffer(message, "<i2").tolist() == [32_767, 32_767, -32_768]


def test_a_reason_fits_into_a_close_frame():
    assert protocol.reason("short") == "short"
    assert len(protocol.reason("ü" * 100).encode()) <= 123


def test_the_end_is_the_only_text_after_the_first_message():
    protocol.require_end('{"end": true}')
    with pytest.raises(protocol.ProtocolError):
        protocol.require_end('{"end": false}')
