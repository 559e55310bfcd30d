"""The consent of a speaker, written or spoken."""

import numpy as np
import pytest

from helpers import SOURCE, write_wav
from vc_lightning.common.errors import InputError
from vc_lightning.conversion import consent


def test_keeps_written_consent(tmp_path):
    statement = consent.read_statement("  I, Anna, agree that my voice is used. ")
    stored = consent.store(statement, tmp_path / "a.consent.flac")
    assert stored.text == "I, Anna, agree that my voice is used."
    assert str(stored) == f'"I, Anna, agree that my voice is used." ({consent.today()})'
    assert consent.restate(stored) == statement
    assert list(tmp_path.iterdir()) == []


def test_stores_spoken_consent_at_16_khz(tmp_path, speech):
    source = write_wav(tmp_path / "spoken.wav", np.repeat(speech, 2), 32_000)
    statement = consent.read_statement(str(source))
    stored = consent.store(statement, tmp_path / "a.consent.flac")
    assert (stored.text, stored.seconds) == ("", pytest.approx(6.05, abs=0.06))
    assert str(stored).startswith(f"spoken, 6.0 s ({consent.today()}): {tmp_path}/a.consent.flac")
    again = consent.restate(stored)
    np.testing.assert_allclose(again.wav, statement.wav, atol=1e-4)
    stored.recording.write_bytes(source.read_bytes())
    with pytest.raises(InputError, match="is not the stored consent"):
        consent.restate(stored)
    stored.recording.unlink()
    assert str(stored).endswith("which is missing")
    with pytest.raises(InputError, match="no such file"):
        consent.restate(stored)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "one line of 1 to 1000"),
        ("   ", "one line of 1 to 1000"),
        ("I agree\nto all", "one line of 1 to 1000"),
        ("\x1b[2J", "one line of 1 to 1000"),
        ("a" * 1001, "one line of 1 to 1000"),
        ("missing/agree.m4a", "no such file"),
    ],
)
def test_refuses_invalid_consent(value, reason):
    with pytest.raises(InputError, match=reason):
        consent.read_statement(value)


def test_refuses_long_consent_recording(tmp_path, speech):
    path = write_wav(tmp_path / "long.wav", np.tile(speech, 11))
    with pytest.raises(InputError, match="lasts 67 s; give at most 60 s"):
        consent.read_statement(str(path))


def test_recording_with_unknown_suffix(tmp_path):
    path = tmp_path / "agreed"
    path.write_bytes(SOURCE.read_bytes())
    assert consent.read_statement(str(path)).wav is not None
