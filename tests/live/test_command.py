"""python live.py and vc-live: what they check, record and serve."""

import json
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
import soundfile
from websockets.sync.client import connect

from helpers import TARGET, composed
from vc_lightning.commands import live, live_speak
from vc_lightning.conversion import provenance

SILENT = ("output_device=none", "vocoder=griffin_lim", "vocoder.n_iter=1", "device=cpu")


@pytest.fixture(autouse=True)
def handlers():
    """Put the process's signal handlers back."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def short(tmp_path, speech):
    """A second of speech."""
    path = tmp_path / "short.wav"
    soundfile.write(path, speech[:16_000], 16_000)
    return path


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        live.main(composed("live", *arguments))
    assert stop.value.code == 2
    return capsys.readouterr().err


def main(tiny_checkpoint, *arguments):
    live.main(composed("live", f"target={TARGET}", f"ckpt={tiny_checkpoint}", *arguments))


def test_a_file_is_converted_in_real_time_and_both_sides_are_recorded(
    tiny_checkpoint, short, tmp_path, speech
):
    path = tmp_path / "both.wav"
    main(tiny_checkpoint, f"source={short}", f"record={path}", *SILENT)
    left, right = soundfile.read(path, dtype="float32")[0].T
    assert np.abs(left - speech[:16_000]).max() < 1e-4
    assert right.std() > 1e-4
    assert provenance.read(path).vocoder == "GriffinLim"


def test_sigterm_leaves_a_whole_file(tiny_checkpoint, tmp_path):
    path = tmp_path / "both.wav"

    def terminate():
        while not any(tmp_path.glob(".*.wav")):
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=terminate)
    thread.start()
    main(tiny_checkpoint, f"source={TARGET}", f"record={path}", *SILENT)
    thread.join()
    assert 0.05 < soundfile.info(path).duration < soundfile.info(TARGET).duration - 1
    assert not any(tmp_path.glob(".*.wav"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "there is no target voice"),
        (["target=x.wav", "output_device=none"], "the conversion would be lost; add record=FILE"),
        (["mode=sing"], "mode=sing: is none of speak, serve, devices"),
        (["target=x.wav", "record=x.mp3"], "record=x.mp3"),
        (["target=x.wav", "monitor=1"], "monitor=1: give true or false"),
        (["target=x.wav", "input_rate=10"], "input_rate=10"),
        (["target=x.wav", "device_latency=long"], "device_latency=long"),
        (["target=x.wav", "input_device=[1]"], "input_device=[1]: give a number or a name"),
        (["mode=serve", "serve.port=70000"], "serve.port=70000"),
        (["mode=serve", "serve.host=0.0.0.0"], "set a token"),
    ],
)
def test_wrong_values_are_named_before_anything_is_loaded(capsys, arguments, words):
    assert words in refused(capsys, *arguments)


def test_a_third_interruption_ends_at_once():
    with live_speak.interruptions() as is_interrupted:
        assert not is_interrupted()
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        assert is_interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_word_serve_starts_the_server_and_sigterm_ends_it(tiny_checkpoint, monkeypatch, caplog):
    """As a person types it, up to Hydra."""
    words = [f"target={TARGET}", f"ckpt={tiny_checkpoint}", "serve.port=0", *SILENT[1:]]
    monkeypatch.setattr(sys, "argv", ["live.py", "serve", *words])
    monkeypatch.setattr(
        live.entry_point, "run", lambda main, name: main(composed(name, *sys.argv[1:]))
    )
    answers = []

    def talk():
        while not (found := [r for r in caplog.messages if r.startswith("serving at")]):
            time.sleep(0.02)
        with connect(found[0].split()[2]) as client:
            client.send(json.dumps({"rate": 16_000, "format": "int16"}))
            answers.append(json.loads(client.recv()))
            client.send(bytes(32_000))
            client.send(json.dumps({"end": True}))
            answers.append(sum(map(len, client)))
        os.kill(os.getpid(), signal.SIGTERM)

    caplog.set_level("INFO")
    thread = threading.Thread(target=talk)
    thread.start()
    with pytest.raises(SystemExit) as stop:
        live.run()
    thread.join()
    assert stop.value.code == 0
    assert answers[0]["block_seconds"] == 0.16
    assert answers[1] == 32_000
