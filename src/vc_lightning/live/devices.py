"""Sound devices: list, choose, open and watch them."""

import logging
import time
from types import ModuleType
from typing import Any, Literal

import numpy as np

from vc_lightning.common.errors import InputError
from vc_lightning.live.buffers import CaptureBuffer, PlaybackBuffer

log = logging.getLogger("live")

Kind = Literal["input", "output"]
NONE = "none"  # in place of a device
PIECE_SECONDS = 0.016  # length of a microphone's pieces of sound
MAX_CAPTURED_SECONDS = 1.0  # most sound that waits for the conversion; more is dropped
LOST_SECONDS = 3.0  # without a call from a device, after which it counts as gone
COMMON_RATES = (16_000, 22_050, 32_000, 44_100, 48_000, 96_000)  # in Hz, tried for error messages


def library() -> ModuleType:
    """Import sounddevice.

    Raises:
        InputError: The package or the PortAudio library is missing.
    """
    try:
        import sounddevice
    except ModuleNotFoundError as error:
        raise InputError(
            "sound devices need sounddevice: pip install 'vc-lightning[live]'"
        ) from error
    except OSError as error:
        raise InputError(
            f"sound devices need PortAudio ({error}): apt install libportaudio2, or dnf install "
            "portaudio; source=FILE output_device=none record=FILE needs none"
        ) from error
    return sounddevice


def listed() -> list[str]:
    """Describe every device in one line: number, name, channels and usual rate."""
    sounddevice = library()
    lines = []
    for number, device in enumerate(sounddevice.query_devices()):
        host = sounddevice.query_hostapis(device["hostapi"])["name"]
        lines.append(
            f"{number:3}  {device['name']}, {host} ({device['max_input_channels']} in, "
            f"{device['max_output_channels']} out, {device['default_samplerate']:.0f} Hz)"
        )
    return lines


def find(wanted: str | int | None, kind: Kind) -> int:
    """Find the number of a device.

    Args:
        wanted: The device's number, name or a part of its name (any case); None for the system's
            default.
        kind: Direction that it must support.

    Raises:
        InputError: There is no such device, several have this name, or it lacks that direction.
    """
    sounddevice = library()
    devices = list(sounddevice.query_devices())
    able = [n for n, device in enumerate(devices) if device[f"max_{kind}_channels"] > 0]
    key = f"{kind}_device"
    if not able:
        remedy = {
            "input": "source=FILE plays a file in place of a microphone",
            "output": "output_device=none plays nothing",
        }[kind]
        raise InputError(f"there is no {kind} device; connect one, or {remedy}")
    if wanted is None:
        default = sounddevice.default.device[kind]
        return default if default in able else able[0]
    if isinstance(wanted, int) or wanted.isdecimal():
        if int(wanted) in able:
            return int(wanted)
        raise InputError(f"{key}={wanted}: no {kind} device has this number; {_names(able)}")
    names = {number: devices[number]["name"].lower() for number in able}
    found = [number for number in able if names[number] == wanted.lower()]
    found = found or [number for number in able if wanted.lower() in names[number]]
    if not found:
        raise InputError(f"{key}={wanted}: no {kind} device is named like that; {_names(able)}")
    if len(found) > 1:
        default = sounddevice.default.device[kind]
        if default in found:
            return default
        raise InputError(
            f"{key}={wanted}: {len(found)} devices are named like that; "
            f"give one of the numbers {', '.join(map(str, found))}"
        )
    return found[0]


def rate_of(device: int, kind: Kind, wanted: int | None) -> int:
    """Check a sample rate in Hz, or choose the device's usual one.

    Raises:
        InputError: The device refuses the rate; the message names rates that it takes.
    """
    usual = round(library().query_devices(device)["default_samplerate"])
    rate = usual if wanted is None else wanted
    refusal = _refusal(device, kind, rate)
    if refusal is None:
        return rate
    taken = [other for other in COMMON_RATES if _refusal(device, kind, other) is None]
    name = library().query_devices(device)["name"]
    others = f"it takes {', '.join(map(str, taken))}" if taken else "it takes no usual rate"
    raise InputError(f"{kind}_rate={rate}: {name} refuses it ({refusal}); {others}")


class Microphone:
    """Record sound.

    Args:
        device: Number of the device.
        rate: In Hz.
        latency: Latency of the device: low, high, or seconds.

    Attributes:
        latency_seconds: Latency of the device as PortAudio states it.
    """

    is_finished = False  # it has no end

    def __init__(self, device: int, rate: int, latency: str | float):
        self.rate = rate
        self._name = library().query_devices(device)["name"]
        self._buffer = CaptureBuffer(round(MAX_CAPTURED_SECONDS * rate))
        self._n_overflows = 0
        self._heard = time.monotonic()
        self._stream = _opened(
            "InputStream",
            self._name,
            device=device,
            samplerate=rate,
            channels=1,
            dtype="float32",
            blocksize=round(PIECE_SECONDS * rate),
            latency=latency,
            callback=self._take,
        )
        self.latency_seconds = float(self._stream.latency)

    @property
    def n_gaps(self) -> int:
        """Number of times that sound was lost before its conversion."""
        return self._n_overflows + self._buffer.n_gaps

    def read(self, timeout_seconds: float) -> np.ndarray:
        """Take the sound since the last call, float32 (n,); wait that long if there is none.

        Raises:
            InputError: The device gave nothing for some seconds.
        """
        samples = self._buffer.read(timeout_seconds)
        if len(samples):
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > LOST_SECONDS:
            raise InputError(f"the input device {self._name} stopped; connect it and start again")
        return samples

    def close(self) -> None:
        """Stop recording."""
        _closed(self._stream)

    def _take(self, samples: np.ndarray, n_frames: int, times: Any, status: Any) -> None:
        del n_frames, times
        self._n_overflows += bool(status.input_overflow)
        self._buffer.write(samples[:, 0].copy())


class Speaker:
    """Play sound.

    Args:
        device: Number of the device.
        rate: In Hz.
        latency: Latency of the device: low, high, or seconds.
        cushion_seconds: See `PlaybackBuffer`.
        max_seconds: Longest sound that waits to be played.

    Attributes:
        buffer: Samples that wait to be played.
        latency_seconds: Latency of the device as PortAudio states it.
    """

    def __init__(
        self,
        device: int,
        rate: int,
        latency: str | float,
        cushion_seconds: float,
        max_seconds: float,
    ):
        self.rate = rate
        settings = library().query_devices(device)
        self._name = settings["name"]
        self.buffer = PlaybackBuffer(round(cushion_seconds * rate), round(max_seconds * rate))
        self._asked = time.monotonic()
        self._stream = _opened(
            "OutputStream",
            self._name,
            device=device,
            samplerate=rate,
            # A mono stream might play on the left only.
            channels=min(2, settings["max_output_channels"]),
            dtype="float32",
            latency=latency,
            callback=self._give,
        )
        self.latency_seconds = float(self._stream.latency)

    def write(self, samples: np.ndarray) -> None:
        """Play float32 samples (n,) after those that wait.

        Raises:
            InputError: The device took nothing for some seconds.
        """
        if time.monotonic() - self._asked > LOST_SECONDS:
            raise InputError(f"the output device {self._name} stopped; connect it and start again")
        self.buffer.write(samples)

    def drain(self) -> None:
        """Wait until everything was played, unless the device stopped."""
        self.buffer.end()
        while len(self.buffer) and time.monotonic() - self._asked <= LOST_SECONDS:
            time.sleep(PIECE_SECONDS)
        time.sleep(self.latency_seconds)

    def close(self) -> None:
        """Stop playing."""
        _closed(self._stream)

    def _give(self, samples: np.ndarray, n_frames: int, times: Any, status: Any) -> None:
        del times
        self._asked = time.monotonic()
        if status.output_underflow:
            self.buffer.count_underrun()
        samples[:] = self.buffer.read(n_frames)[:, None]


def _names(numbers: list[int]) -> str:
    devices = library().query_devices()
    return "there are " + ", ".join(f"{number} ({devices[number]['name']})" for number in numbers)


def _refusal(device: int, kind: Kind, rate: int) -> str | None:
    sounddevice = library()
    check = getattr(sounddevice, f"check_{kind}_settings")
    try:
        check(device=device, channels=1, dtype="float32", samplerate=rate)
    except (sounddevice.PortAudioError, ValueError) as error:
        return _reason(error)
    return None


def _opened(kind: str, name: str, **settings: Any) -> Any:
    """Open and start a stream of PortAudio."""
    sounddevice = library()
    try:
        stream = getattr(sounddevice, kind)(**settings)
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        raise InputError(
            f"{name} cannot be opened ({_reason(error)}); close programs that use it, or choose "
            "another device"
        ) from error
    return stream


def _closed(stream: Any) -> None:
    try:
        stream.abort()
        stream.close()
    except library().PortAudioError as error:  # of a device that is gone already
        log.debug("a device was not closed: %s", error)


def _reason(error: Exception) -> str:
    """Return PortAudio's own words, without its numbers."""
    text = str(error.args[0] if error.args else error)
    return text.removeprefix("Error opening InputStream: ").removeprefix(
        "Error opening OutputStream: "
    )
