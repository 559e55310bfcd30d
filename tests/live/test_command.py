"""python live.py and vc-live: what they check and record."""

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
import soundfile

from helpers import TARGET, composed
from vc_lightning import VoiceConverter
from vc_lightning.commands import live, live_speak
from vc_lightning.conversion import provenance
from vc_lightning.conversion.voices.shelf import VoiceShelf

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
        (["mode=sing"], "mode=sing: choose one of speak, devices"),
        (["target=x.wav", "record=x.mp3"], "record=x.mp3"),
        (["target=x.wav", "monitor=1"], "monitor=1: give true or false"),
        (["target=x.wav", "input_rate=10"], "input_rate=10"),
        (["target=x.wav", "device_latency=long"], "device_latency=long"),
        (["target=x.wav", "input_device=[1]"], "input_device=[1]: give a number or a name"),
    ],
)
def test_wrong_values_are_named_before_anything_is_loaded(capsys, arguments, words):
    assert words in refused(capsys, *arguments)


def test_the_speaker_is_known_by_recordings_or_a_learned_voice(
    tiny_checkpoint, short, tmp_path, monkeypatch
):
    opened = []

    def stream(self, voice, *arguments, **settings):
        opened.append(settings)
        return real(self, voice, *arguments, **settings)

    real = VoiceConverter.stream
    monkeypatch.setattr(VoiceConverter, "stream", stream)
    converter = VoiceConverter.from_checkpoint(tiny_checkpoint)
    VoiceShelf(tmp_path).learn("Anna", [converter.sample(TARGET)], converter)
    embeddings = {}
    for speaker in (str(TARGET), "Anna", "null"):
        main(
            tiny_checkpoint,
            *(f"source={short}", f"record={tmp_path / 'both.wav'}", f"speaker={speaker}"),
            f"voices.dir={tmp_path}",
            *SILENT,
        )
        settings = opened[-1]
        if speaker == "null":
            assert settings["source"] is settings["earlier"] is None
        else:
            embeddings[speaker] = settings["source"].embedding
            is_recording = speaker != "Anna"
            assert (settings["earlier"] is not None) == is_recording
    np.testing.assert_allclose(*embeddings.values(), atol=1e-6)


def test_a_speaker_that_is_neither_recording_nor_voice_is_named(tiny_checkpoint, capsys, tmp_path):
    arguments = (
        *(f"target={TARGET}", f"source={TARGET}", f"ckpt={tiny_checkpoint}"),
        *(f"voices.dir={tmp_path}", *SILENT),
    )
    words = refused(capsys, "speaker=nobody.wav", f"record={tmp_path / 'both.wav'}", *arguments)
    assert "speaker=nobody.wav: there is no such file, and no learned voice of this name" in words


def test_a_third_interruption_ends_at_once():
    with live_speak.interruptions() as is_interrupted:
        assert not is_interrupted()
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        assert is_interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("word", ["serve", "mode=serve", "serve.port=1"])
def test_serving_is_said_to_be_elsewhere(monkeypatch, capsys, word):
    monkeypatch.setattr(sys, "argv", ["live.py", word, "target=x.wav"])
    with pytest.raises(SystemExit):
        live.run()
    assert (
        "python serve.py live.target=FILE, at ws://127.0.0.1:8000/live" in capsys.readouterr().err
    )
