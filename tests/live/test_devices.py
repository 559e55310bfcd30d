"""Choice of sound devices, with a stand-in for PortAudio: clear sentences, no hardware."""

import sys
import types

import pytest

from vc_lightning.common.errors import InputError
from vc_lightning.live import devices


class PortAudioError(Exception):
    pass


def device(name, n_in, n_out, rate=44_100):
    return {
        "name": name,
        "max_input_channels": n_in,
        "max_output_channels": n_out,
        "default_samplerate": float(rate),
        "hostapi": 0,
    }


@pytest.fixture
def portaudio(monkeypatch):
    """Install a PortAudio with some devices."""

    def portaudio(*found, default=(0, 0), rates=(44_100, 48_000)):
        def query_devices(number=None):
            return found if number is None else found[number]

        def check(device, channels, dtype, samplerate):
            if samplerate not in rates:
                raise PortAudioError("Invalid sample rate", -9997)

        module = types.SimpleNamespace(
            query_devices=query_devices,
            query_hostapis=lambda _: {"name": "ALSA"},
            default=types.SimpleNamespace(
                device=dict(zip(("input", "output"), default, strict=True))
            ),
            check_input_settings=check,
            check_output_settings=check,
            PortAudioError=PortAudioError,
        )
        monkeypatch.setitem(sys.modules, "sounddevice", module)

    return portaudio


@pytest.fixture
def three(portaudio):
    portaudio(
        device("Loudspeaker", 0, 2), device("USB Mic", 1, 0), device("USB Headset", 1, 2, 48_000)
    )


def test_devices_are_listed_with_their_numbers(three):
    assert devices.listed()[2] == "  2  USB Headset, ALSA (1 in, 2 out, 48000 Hz)"


@pytest.mark.parametrize(
    ("wanted", "kind", "number"),
    [
        (2, "input", 2),
        ("1", "input", 1),
        ("usb mic", "input", 1),
        ("head", "output", 2),
        (None, "output", 0),
        (None, "input", 1),  # the default can not record
    ],
)
def test_a_device_is_found_by_number_name_or_default(three, wanted, kind, number):
    assert devices.find(wanted, kind) == number


@pytest.mark.parametrize(
    ("wanted", "kind", "words"),
    [
        (0, "input", "input_device=0: no input device has this number; there are 1 "),
        ("piano", "output", "named like that; there are 0 .Loudspeaker."),
        ("usb", "input", "2 devices are named like that; give one of the numbers 1, 2"),
    ],
)
def test_a_device_that_is_not_there_is_answered_with_those_that_are(three, wanted, kind, words):
    with pytest.raises(InputError, match=words):
        devices.find(wanted, kind)


@pytest.mark.parametrize(
    ("kind", "words"), [("input", "source=FILE"), ("output", "output_device=none")]
)
def test_without_any_device_the_message_says_what_works(portaudio, kind, words):
    portaudio(default=(-1, -1))
    with pytest.raises(InputError, match=f"no {kind} device; connect one, or {words}"):
        devices.find(None, kind)


def test_a_refused_rate_is_answered_with_rates_that_are_taken(three):
    assert devices.rate_of(2, "input", None) == 48_000
    with pytest.raises(InputError, match=r"input_rate=16000: USB Mic.*44100, 48000"):
        devices.rate_of(1, "input", 16_000)


def test_a_missing_library_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(InputError, match=r"vc-lightning\[live\]"):
        devices.library()
