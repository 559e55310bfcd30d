"""The consent of a speaker, written or spoken."""

import numpy as np
import pytest

from helpers import SOURCE, write_wav
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.voices import consent
from vc_lightning.conversion.voices.consent import Consent


def test_written_consent():
    given = consent.read("  I, Anna, agree that my voice is used. ")
    assert given == Consent("I, Anna, agree that my voice is used.", consent.today())
    assert str(given) == f'"I, Anna, agree that my voice is used." ({consent.today()})'
    assert given.seconds == 0


def test_spoken_consent_is_resampled_to_16_khz(tmp_path, speech):
    given = consent.read(str(write_wav(tmp_path / "spoken.wav", np.repeat(speech, 2), 32_000)))
    assert (given.text, given.seconds) == ("", pytest.approx(6.05, abs=0.06))
    assert str(given) == f"spoken, 6.0 s ({consent.today()})"


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
        consent.read(value)


def test_refuses_long_consent_recording(tmp_path, speech):
    path = write_wav(tmp_path / "long.wav", np.tile(speech, 11))
    with pytest.raises(InputError, match="lasts 67 s; give at most 60 s"):
        consent.read(str(path))


def test_recording_with_unknown_suffix(tmp_path):
    path = tmp_path / "agreed"
    path.write_bytes(SOURCE.read_bytes())
    assert consent.read(str(path)).wav is not None
