"""A live conversion without a sound card: files, buffers, recordings, keys, faults."""

import contextlib
import os
import pty
import time

import numpy as np
import pytest
import soundfile

from vc_lightning.common.errors import InputError
from vc_lightning.live.buffers import CaptureBuffer, PlaybackBuffer
from vc_lightning.live.recorder import recording
from vc_lightning.live.session import FileSource, Session, SilentSink, level_dbfs
from vc_lightning.live.terminal import Keys, bar, line

RATE = 8_000


class Doubler:
    """A stream that is one block late and twice as loud."""

    latency_seconds = 0.1

    def __init__(self):
        self.held = np.zeros(0, np.float32)

    def push(self, samples):
        self.held = np.concatenate([self.held, 2 * samples])
        made, self.held = self.held[:-800], self.held[-800:]
        return made

    def flush(self):
        return self.held


def ramp(seconds=0.5):
    return np.linspace(0.01, 0.4, int(seconds * RATE), dtype=np.float32)


def session(wav, recorder=None, source=None, **options):
    source = source or FileSource(wav, RATE, 0.016)
    return Session(Doubler(), source, SilentSink(RATE, 0.05, 1.0), recorder, **options)


def run(one):
    one.start()
    one.wait(10)
    one.stop()


def recorded(path, wav, **options):
    with recording(path, RATE, {"title": "both"}) as recorder:
        run(session(wav, recorder, **options))
    return soundfile.read(path)[0].T


def test_a_file_takes_its_time_and_both_sides_are_recorded_in_step(tmp_path):
    begun = time.monotonic()
    left, right = recorded(tmp_path / "both.wav", ramp())
    assert time.monotonic() - begun >= 0.5
    assert left == pytest.approx(ramp(), abs=1e-4)
    assert right == pytest.approx(2 * ramp(), abs=1e-4)


def test_mute_silences_what_is_played_and_not_the_recording(tmp_path):
    path = tmp_path / "both.wav"
    with recording(path, RATE, {}) as recorder:
        one = session(ramp(0.3), recorder, is_muted=True)
        run(one)
    assert one.status.output_dbfs == -100
    assert soundfile.read(path)[0][:, 1].max() > 0.5


def test_pause_replaces_the_input_by_silence(tmp_path):
    with recording(tmp_path / "both.wav", RATE, {}) as recorder:
        one = session(ramp(0.3), recorder)
        one.is_paused = True
        run(one)
    assert not soundfile.read(tmp_path / "both.wav")[0].any()
    assert one.status.input_dbfs == -100


def test_an_interruption_leaves_a_whole_file(tmp_path):
    path = tmp_path / "both.wav"

    def interrupted():
        with recording(path, RATE, {}) as recorder:
            one = session(ramp(60), recorder)
            one.start()
            try:
                time.sleep(0.2)
                raise KeyboardInterrupt
            finally:
                one.stop()

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    left, right = soundfile.read(path)[0].T
    assert 0.1 * RATE < len(left) < 5 * RATE
    assert right == pytest.approx(2 * left, abs=1e-3)
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_that_vanishes_ends_the_session_and_the_file_is_whole(tmp_path):
    class Vanishing(FileSource):
        def read(self, timeout_seconds):
            if self._position > 1000:
                raise InputError("the input device stopped")
            return super().read(timeout_seconds)

    path = tmp_path / "both.wav"
    with pytest.raises(InputError, match="stopped"):
        recorded(path, ramp(), source=Vanishing(ramp(), RATE, 0.016))
    assert soundfile.info(path).frames > 1000


def test_the_delay_is_measured_from_the_word_to_the_loudspeaker():
    one = session(ramp(0.4))
    push = one.stream.push
    one.stream.push = lambda samples: time.sleep(0.005) or push(samples)
    one.source.latency_seconds, one.sink.latency_seconds = 0.2, 0.3
    run(one)
    # 100 ms of the stream, 50 ms of cushion and both devices; computing takes of the cushion.
    expected = 0.1 + 0.05 + 0.2 + 0.3
    assert expected - 0.01 < one.status.delay_seconds < expected + 0.1
    assert one.status.delay_seconds <= one.status.longest_delay_seconds
    assert "delay" in line(one.status, is_muted=False, is_paused=False)
    assert session(ramp(0.1)).status.delay_seconds == 0


def test_levels_and_load_are_counted():
    one = session(np.full(RATE // 2, 0.1, np.float32))
    run(one)
    status = one.status
    assert status.input_dbfs == pytest.approx(-20, abs=0.1)
    assert status.output_dbfs == pytest.approx(-14, abs=0.1)
    assert status.seconds == 0.5
    assert 0 < status.load < 1
    assert one.latency_seconds == pytest.approx(0.15)


def test_nan_has_no_level():
    assert level_dbfs(np.full(9, np.nan, np.float32)) == -100


def test_playback_starts_with_a_cushion_and_counts_what_runs_out():
    buffer = PlaybackBuffer(cushion_samples=2, max_samples=10)
    assert buffer.read(3).tolist() == [0, 0, 0]
    assert buffer.n_underruns == 0
    buffer.write(np.ones(3, np.float32))
    assert buffer.read(4).tolist() == [0, 0, 1, 1]
    assert buffer.read(4).tolist() == [1, 0, 0, 0]
    assert buffer.n_underruns == 1
    buffer.write(np.ones(20, np.float32))
    assert len(buffer) == 10
    assert buffer.n_dropped == 12
    buffer.end()
    buffer.read(11)
    assert buffer.n_underruns == 1


def test_captured_sound_is_bounded_and_the_oldest_is_dropped():
    buffer = CaptureBuffer(max_samples=5)
    assert len(buffer.read(0)) == 0
    for value in (1, 2, 3):
        buffer.write(np.full(2, value, np.float32))
    assert buffer.n_dropped == 2
    assert buffer.read(0).tolist() == [2, 2, 3, 3]
    assert len(buffer.read(0)) == 0
    assert buffer.n_gaps == 1
    for _ in range(2):  # each is one gap, however many pieces it loses
        for _ in range(4):
            buffer.write(np.ones(2, np.float32))
        buffer.read(0)
    assert (buffer.n_dropped, buffer.n_gaps) == (10, 3)


def test_the_meter_shows_levels_faults_and_switches():
    assert bar(-60) == "·" * 16
    assert bar(-30) == "█" * 8 + "·" * 8
    assert bar(3) == "█" * 16
    one = session(ramp())
    text = line(one.status, is_muted=True, is_paused=True)
    assert "PAUSED  MUTED" in text
    assert "under-runs 0" in text
    assert "gaps" not in text


def test_single_keys_are_read_and_the_terminal_is_put_back():
    import termios

    master, slave = pty.openpty()
    with os.fdopen(slave) as file, contextlib.closing(os.fdopen(master, "wb", 0)) as keyboard:
        before = termios.tcgetattr(file)
        with Keys(file) as keys:
            assert keys.pressed() == ""
            keyboard.write(b"M")
            assert keys.pressed() == "m"
        assert termios.tcgetattr(file) == before
