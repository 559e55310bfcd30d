"""Live conversion on this computer: from a source of sound to a sink, in a thread of its own."""

import threading
import time
from dataclasses import dataclass

import numpy as np

from vc_lightning.audio import voice_activity
from vc_lightning.conversion.live.resampling import StreamResampler
from vc_lightning.conversion.live.stream import VoiceStream
from vc_lightning.live.buffers import PlaybackBuffer
from vc_lightning.live.devices import Microphone, Speaker
from vc_lightning.live.recorder import Recorder

POLL_SECONDS = 0.1  # longest wait for sound between two checks for a stop
JOIN_SECONDS = 30.0  # longest wait for the thread's last step
SILENCE_DBFS = -100.0  # shown for digital silence


class FileSource:
    """Plays a recording in real time in place of a microphone.

    Args:
        wav: float32 (n,).
        rate: In Hz.
        piece_seconds: Length of a piece.
    """

    latency_seconds = 0.0  # there is no device
    n_gaps = 0  # no sound of a file is lost

    def __init__(self, wav: np.ndarray, rate: int, piece_seconds: float):
        self.rate = rate
        self._wav = wav
        self._n_piece = max(1, round(piece_seconds * rate))
        self._position = 0
        self._start: float | None = None

    @property
    def is_finished(self) -> bool:
        """Whether everything was read."""
        return self._position >= len(self._wav)

    def read(self, timeout_seconds: float) -> np.ndarray:
        """Take the next piece (n,) once its last sample is due; n = 0 if that is too late."""
        self._start = time.monotonic() if self._start is None else self._start
        stop = min(self._position + self._n_piece, len(self._wav))
        wait = self._start + stop / self.rate - time.monotonic()
        if wait > timeout_seconds:
            time.sleep(timeout_seconds)
            return np.zeros(0, np.float32)
        time.sleep(max(0.0, wait))
        piece, self._position = self._wav[self._position : stop], stop
        return piece

    def close(self) -> None:
        """Do nothing: there is no device."""


class SilentSink:
    """Takes sound in real time without a device, and counts under-runs.

    Args:
        rate: In Hz.
        cushion_seconds: See `PlaybackBuffer`.
        max_seconds: Longest sound that waits to be taken.

    Attributes:
        buffer: Samples that wait to be taken.
    """

    latency_seconds = 0.0  # there is no device

    def __init__(self, rate: int, cushion_seconds: float, max_seconds: float):
        self.rate = rate
        self.buffer = PlaybackBuffer(round(cushion_seconds * rate), round(max_seconds * rate))
        self._start: float | None = None

    def write(self, samples: np.ndarray) -> None:
        """Append float32 samples (n,)."""
        now = time.monotonic()
        self._start = now if self._start is None else self._start
        self.buffer.read(round((now - self._start) * self.rate) - self.buffer.n_read)
        self.buffer.write(samples)

    def drain(self) -> None:
        """Return at once: nothing is played."""
        self.buffer.end()

    def close(self) -> None:
        """Do nothing: there is no device."""


Source = Microphone | FileSource
Sink = Speaker | SilentSink


@dataclass(frozen=True)
class Status:
    """State of a session.

    Attributes:
        input_dbfs: RMS level of the last samples that came in.
        output_dbfs: RMS level of the last samples that were played.
        n_underruns: Number of times that the output ran out of sound.
        n_gaps: Number of times that sound of the input was lost.
        seconds: Length of the sound that came in.
        load: Computing time as a share of `seconds`.
        delay_seconds: Mean time from a word to its conversion as measured, devices included; 0
            before the first conversion.
        longest_delay_seconds: The longest such time.
    """

    input_dbfs: float
    output_dbfs: float
    n_underruns: int
    n_gaps: int
    seconds: float
    load: float
    delay_seconds: float = 0.0
    longest_delay_seconds: float = 0.0


class Session:
    """Converts the sound of a source and plays it, until it is stopped or the source ends.

    Args:
        stream: The conversion, at the source's rate.
        source: The speaker's sound; closed at the end.
        sink: Plays the conversion; closed at the end.
        recorder: Records both, and is closed by the caller; None: nothing is recorded.
        is_muted: Initial value of the attribute.

    Attributes:
        is_muted: Whether silence is played; the conversion and the recording continue.
        is_paused: Whether silence is converted in place of the source.
    """

    def __init__(
        self,
        stream: VoiceStream,
        source: Source,
        sink: Sink,
        recorder: Recorder | None = None,
        is_muted: bool = False,
    ):
        self.stream, self.source, self.sink, self.recorder = stream, source, sink, recorder
        self.is_muted, self.is_paused = is_muted, False
        self._to_output = StreamResampler(source.rate, sink.rate)
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._n_in = self._n_made = 0
        self._computing_seconds = 0.0
        self._n_delays = 0
        self._sum_of_delays = self._longest_delay = 0.0
        self._input_dbfs = self._output_dbfs = SILENCE_DBFS
        self._thread = threading.Thread(target=self._work, name="live conversion", daemon=True)

    @property
    def is_running(self) -> bool:
        """Whether the thread still converts."""
        return self._thread.is_alive()

    @property
    def latency_seconds(self) -> float:
        """Time from a word to its conversion, without computing."""
        cushion = self.sink.buffer.cushion_samples / self.sink.rate
        return self.stream.latency_seconds + self._devices_seconds + cushion

    @property
    def _devices_seconds(self) -> float:
        return self.source.latency_seconds + self.sink.latency_seconds

    @property
    def status(self) -> Status:
        """State of the session."""
        seconds = self._n_in / self.source.rate
        return Status(
            input_dbfs=self._input_dbfs,
            output_dbfs=self._output_dbfs,
            n_underruns=self.sink.buffer.n_underruns,
            n_gaps=self.source.n_gaps,
            seconds=seconds,
            load=self._computing_seconds / seconds if seconds else 0.0,
            delay_seconds=self._sum_of_delays / max(1, self._n_delays),
            longest_delay_seconds=self._longest_delay,
        )

    def start(self) -> None:
        """Start the conversion."""
        self._thread.start()

    def wait(self, timeout_seconds: float) -> None:
        """Wait at most `timeout_seconds` until the source ends or an error stops the session."""
        self._thread.join(timeout_seconds)

    def stop(self) -> None:
        """End the conversion; the last words are still recorded.

        Raises:
            InputError: A device or file failed during the session.
        """
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(JOIN_SECONDS)
        self.source.close()
        self.sink.close()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            while not self._stopping.is_set() and not self.source.is_finished:
                samples = self.source.read(POLL_SECONDS)
                if len(samples):
                    self._convert(np.zeros_like(samples) if self.is_paused else samples)
            self._deliver(self.stream.flush())
            if not self._stopping.is_set():
                self.sink.drain()
        except BaseException as error:  # raised again by `stop`
            self._error = error

    def _convert(self, samples: np.ndarray) -> None:
        if self.recorder is not None:
            self.recorder.write_input(samples)
        begun = time.perf_counter()
        made = self.stream.push(samples)
        self._computing_seconds += time.perf_counter() - begun
        self._n_in += len(samples)
        self._input_dbfs = level_dbfs(samples)
        self._deliver(made)
        self._n_made += len(made)
        if len(made):
            self._measure_delay(begun)

    def _measure_delay(self, arrived: float) -> None:
        """Measure how long after it was spoken the newest converted sample will be played.

        Args:
            arrived: When the newest sample of the input arrived.
        """
        behind = (self._n_in - self._n_made) / self.source.rate
        waiting = len(self.sink.buffer) / self.sink.rate
        delay = behind + time.perf_counter() - arrived + waiting + self._devices_seconds
        self._n_delays += 1
        self._sum_of_delays += delay
        self._longest_delay = max(self._longest_delay, delay)

    def _deliver(self, made: np.ndarray) -> None:
        if not len(made):
            return
        if self.recorder is not None:
            self.recorder.write_output(made)
        played = np.zeros_like(made) if self.is_muted else made
        self._output_dbfs = level_dbfs(played)
        self.sink.write(self._to_output.push(played))


def level_dbfs(samples: np.ndarray) -> float:
    """Return the RMS level of samples (n,) in dB relative to full scale, ≥ `SILENCE_DBFS`."""
    return max(SILENCE_DBFS, voice_activity.rms_dbfs(np.nan_to_num(samples, posinf=0, neginf=0)))
