"""What the page computes, without a server."""

import threading

import numpy as np
import pytest

from helpers import SOURCE, TARGET, composed, write_wav
from page_helpers import SETTINGS, broken, eventually, voice_request
from vc_lightning.commands import app
from vc_lightning.common.errors import InputError
from vc_lightning.demo.service import ConversionService, Settings


def convert(service, source=SOURCE, targets=(TARGET,), settings=SETTINGS, learned=""):
    told = []
    request = voice_request(targets, learned, settings)
    result = service.convert(source, request, lambda *news: told.append(news))
    return result, told


def test_conversion_equals_converter(service, speech):
    result, told = convert(service)
    converter = service.converter("tiny", "griffin_lim")
    assert np.array_equal(result.wav, converter.convert(SOURCE, TARGET))
    assert (result.name, result.sample_rate) == ("source_to_target.wav", 16_000)
    similarity = float(converter.embed(SOURCE) @ converter.embed(TARGET))
    assert result.to_target[0] == pytest.approx(similarity, abs=1e-5)
    assert result.to_source[0] == pytest.approx(1)
    for path, mel in zip((SOURCE, TARGET), result.mels, strict=False):
        wav = converter.load(path)
        np.testing.assert_allclose(mel, converter.mel.extract(wav, 16_000), atol=1e-6)
    shares = [share for share, _ in told]
    assert np.diff(shares).min() > -1e-9
    assert 0 < shares[0] < shares[-1] < 1


def test_voice_is_mean_of_recordings(service, tmp_path, other_speech):
    halves = [write_wav(tmp_path / f"{i}.wav", other_speech[i * 70_000 :][:70_000]) for i in (0, 1)]
    result, _ = convert(service, targets=halves)
    assert np.array_equal(
        result.wav, service.converter("tiny", "griffin_lim").convert(SOURCE, halves)
    )


def test_learned_voice(service):
    result, _ = convert(service, targets=[SOURCE], learned="Ann")
    assert np.array_equal(result.wav, convert(service)[0].wav)
    assert (result.name, result.mels[1]) == ("source_to_Ann.wav", None)
    for name in ("Ben", "../Ann", "/etc/passwd"):
        with pytest.raises(InputError, match="voice") as caught:
            convert(service, learned=name)
        assert str(service.voices) not in str(caught.value)


def test_keeps_few_loaded_converters(tmp_path):
    loaded = []
    paths = {name: tmp_path / name for name in "abcd"}
    service = ConversionService(
        paths, ["v"], lambda *what: loaded.append(what), tmp_path, max_seconds=9, max_megabytes=9
    )
    for name in "aabcda":
        service.converter(name, "v")
    assert [path.name for path, _ in loaded] == ["a", "b", "c", "d", "a"]


@pytest.mark.parametrize(
    ("name", "content", "seconds", "sentence"),
    [
        ("letter.wav", b"dear sir", 0, "is not audio"),
        ("empty.wav", b"", 0, "is not audio"),
        ("large.wav", bytes(1_000_001), 0, "has 1.0 MB; give at most 1 MB"),
        ("long.wav", b"", 20.5, "lasts 20 s; give at most 20 s"),
        ("short.wav", b"", 0.2, "too short"),
        ("noise.wav", b"", 0.6, "no speech found"),
    ],
)
def test_errors_hide_folders(service, tmp_path, name, content, seconds, sentence):
    path = broken(tmp_path, name, content, seconds)
    for source, targets in ((path, [TARGET]), (SOURCE, [TARGET, path])):
        with pytest.raises(InputError, match=sentence) as caught:
            convert(service, source, targets)
        assert str(caught.value).startswith(name)
        assert str(tmp_path) not in str(caught.value)


def test_conversions_wait_for_live_speech(service):
    assert service.begin_live()
    assert not service.begin_live()  # somebody computes already
    told, results = [], []
    request = voice_request([TARGET])
    thread = threading.Thread(
        target=lambda: results.append(
            service.convert(SOURCE, request, lambda *news: told.append(news))
        )
    )
    thread.start()
    eventually(lambda: told)
    assert told == [(0.01, "Waiting for a live session")]
    service.end_live(has_begun=True)
    thread.join(30)
    assert results[0].name == "source_to_target.wav"
    assert service.begin_live()
    service.end_live(has_begun=True)


def test_refuses_incomplete_requests(service):
    with pytest.raises(InputError, match="there is no recording of the words yet"):
        convert(service, source=None)
    with pytest.raises(InputError, match="there is no voice yet"):
        convert(service, targets=[])
    for settings, sentence in {
        Settings("/etc/passwd", "griffin_lim", 0, 0): "checkpoint=/etc/passwd: is none of tiny",
        Settings("tiny", "loud", 0, 0): "vocoder=loud: is none of griffin_lim,",
        Settings("tiny", "griffin_lim", 99, 0): "guidance=99",
        Settings("tiny", "griffin_lim", 0, -1): "seed=-1",
    }.items():
        with pytest.raises(InputError, match=sentence):
            convert(service, settings=settings)


def test_refuses_bad_limits(tmp_path):
    for limits in ({"max_seconds": 0}, {"max_megabytes": -1}):
        limits = {"max_seconds": 9, "max_megabytes": 9} | limits
        with pytest.raises(InputError, match="give a number"):
            ConversionService({"a": tmp_path}, ["v"], lambda *_: None, tmp_path, **limits)


def test_checkpoints_of_one_name_are_reported(tmp_path, caplog):
    for name in ("a/net.ckpt", "b/net.ckpt", "b/other.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    service = app.build_service(
        composed("app", f"checkpoints={tmp_path}", f"voices.dir={tmp_path}")
    )
    assert list(service.checkpoints) == ["shipped", "net", "other"]
    assert caplog.messages == [
        f"checkpoints: {tmp_path}/b/net.ckpt is left out: another one has this name"
    ]
