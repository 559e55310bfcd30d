"""What every door of the server uses: networks, recordings and queue, without a server."""

import asyncio
import os
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

from helpers import SOURCE, TARGET, composed, two_speakers, write_wav
from server_helpers import LIMITS, broken
from vc_lightning.audio.files import decoding
from vc_lightning.commands import serve
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.measuring import convert_and_measure
from vc_lightning.service.engine import conversions
from vc_lightning.service.engine.conversions import ConversionService
from vc_lightning.service.engine.converters import KEPT_CONVERTERS, Converters
from vc_lightning.service.engine.priority import NICENESS
from vc_lightning.service.engine.recordings import KEPT_SECONDS, Recordings, hidden_folders
from vc_lightning.service.limits import ServiceLimits


async def no_watch(_):
    return False


def niceness_of_thread():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.fixture
def convert(converters, overrides):
    """Prepare and convert as every client's request is."""
    voices = composed("serve", *overrides).voices.dir
    service = ConversionService(converters, serve.Path(voices), ServiceLimits(**LIMITS))

    def convert(source=SOURCE, target=(TARGET,), keep=False, **settings):
        async def both():
            chosen = replace(converters.default, **settings)
            prepared = await service.prepare(source, target, chosen, keep)
            return prepared, await service.convert(prepared, no_watch)

        return asyncio.run(both())

    convert.service = service
    return convert


def test_conversion_equals_converter(convert, converter):
    prepared, result = convert()
    assert np.array_equal(result.wav, converter.convert(SOURCE, TARGET))
    similarity = float(converter.embed(SOURCE) @ converter.embed(TARGET))
    assert result.before == pytest.approx(similarity, abs=1e-5)
    assert result.seconds > prepared.preparation_seconds > 0
    assert prepared.source.seconds == pytest.approx(6.05, abs=0.01)


def test_voice_is_mean_of_recordings(convert, converter, tmp_path, other_speech):
    halves = tuple(
        write_wav(tmp_path / f"{i}.wav", other_speech[i * 70_000 :][:70_000]) for i in (0, 1)
    )
    _, result = convert(target=halves)
    assert np.array_equal(result.wav, converter.convert(SOURCE, halves))


def test_learned_voice(convert):
    prepared, result = convert(target="Ann")
    assert np.array_equal(result.wav, convert()[1].wav)
    assert prepared.reference is None
    for name in ("Ben", "../Ann", "/etc/passwd"):
        with pytest.raises(InputError, match="voice") as caught:
            convert(target=name)
        assert str(convert.service.voices) not in str(caught.value)


def test_a_folder_without_a_name_hides_nothing():
    path = serve.Path("/somewhere/a.wav")
    with (
        pytest.raises(InputError, match=r"^a\.wav: is not audio\.$"),
        hidden_folders([serve.Path(), serve.Path("/"), path]),
    ):
        raise InputError(f"{path}: is not audio.")


def test_recordings_are_decoded_once(convert, monkeypatch):
    """An upload to /convert is, and one on the page, however often it is used."""
    opened = []
    real = decoding._open
    monkeypatch.setattr(
        decoding, "_open", lambda path, *rest: opened.append(path) or real(path, *rest)
    )
    convert()
    assert opened == [TARGET, SOURCE]
    opened.clear()
    for recording in (SOURCE, TARGET):
        asyncio.run(convert.service.check(recording))
    for _ in range(2):
        prepared, _ = convert(keep=True)
    asyncio.run(convert.service.voice((TARGET,), convert.service.converters.default))
    assert opened == [SOURCE, TARGET]
    assert len(prepared.reference.wav) > 100_000
    convert.service.recordings.forget([SOURCE])
    convert(keep=True)
    assert opened == [SOURCE, TARGET, SOURCE]


def test_recording_of_closed_page_is_not_kept(convert, tmp_path, speech, monkeypatch):
    """Its file was deleted while it was analyzed."""
    path = write_wav(tmp_path / "gone.wav", speech[:40_000])
    service = convert.service
    analyzed = service.recordings.analyzed(path, service.converters.get(service.converters.default))

    def analyze(self, recording, converter):
        recording.unlink()
        return analyzed

    monkeypatch.setattr(Recordings, "analyzed", analyze)
    asyncio.run(service.check(path))
    assert not service.recordings._kept


def test_checks_advise(convert, tmp_path, speech, other_speech):
    """On what `convert.py` warns of, without the folder and what a page cannot do."""
    noise = np.random.default_rng(0).standard_normal(40_000) * 0.5 * np.std(speech)
    poor = write_wav(tmp_path / "poor.wav", speech[:40_000] + noise)
    (noisy,) = asyncio.run(convert.service.check(poor))
    assert noisy.startswith("poor.wav: is noisy")
    assert "cleanup" not in noisy
    (short,) = asyncio.run(convert.service.check_voice([poor]))
    assert short.startswith("poor.wav: the target has 2.5 s only")
    (mixed,) = asyncio.run(convert.service.check_voice([SOURCE, TARGET]))
    assert mixed.startswith("source.wav, target.wav: sound like two speakers")
    both = write_wav(tmp_path / "both.wav", two_speakers(speech, other_speech))
    (mixed,) = asyncio.run(convert.service.check_voice([both]))
    assert mixed.startswith("both.wav: begins and ends like two speakers")
    assert asyncio.run(convert.service.check(SOURCE)) == []
    assert asyncio.run(convert.service.check_voice([TARGET])) == []


def test_kept_recordings_are_bounded(convert, converter, monkeypatch, tmp_path):
    recordings = convert.service.recordings
    long = replace(converter.analyze(SOURCE), seconds=200.0)
    monkeypatch.setattr(Recordings, "analyzed", lambda *_: long)
    for index in range(9):
        recording = tmp_path / f"{index}"
        recording.touch()
        recordings.kept(recording, converter)
    assert sum(kept.seconds for kept in recordings._kept.values()) <= KEPT_SECONDS
    assert [path.name for path, _ in recordings._kept] == ["6", "7", "8"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives each thread a priority")
def test_gives_way_to_live_speech_only(convert, monkeypatch):
    """Beside busy programs, a lower priority would make conversions many times slower."""
    found = []

    def noting(function):
        def noted(*arguments):
            found.append(niceness_of_thread())
            return function(*arguments)

        return noted

    monkeypatch.setattr(conversions, "convert_and_measure", noting(convert_and_measure))
    monkeypatch.setattr(Recordings, "analyzed", noting(Recordings.analyzed))
    convert()
    convert.service.n_streams = 1
    convert()
    convert.service.n_streams = 0
    convert()
    own = niceness_of_thread()
    low = max(own, NICENESS)
    assert found == [own, own, low, low, own, own]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives each thread a priority")
def test_gives_way_to_speech_that_begins_meanwhile(convert, converter, monkeypatch):
    found = []

    def interrupted(converter, requests, seed, progress):
        convert.service.n_streams = 1
        progress(0.5)
        found.append(niceness_of_thread())
        return convert_and_measure(converter, requests, seed, progress)

    monkeypatch.setattr(conversions, "convert_and_measure", interrupted)
    _, result = convert()
    assert found == [max(niceness_of_thread(), NICENESS)]
    assert np.array_equal(result.wav, converter.convert(SOURCE, TARGET))


def test_settings_share_one_network(converters):
    default = converters.default
    first = converters.get(default)
    other = converters.get(replace(default, vocoder="griffin_lim", guidance=0.5))
    assert other.autovc is first.autovc
    assert other.speaker_encoder is first.speaker_encoder
    assert (other.guidance, first.guidance) == (0.5, default.guidance)
    for wrong, sentence in {
        ("checkpoint", "/etc/passwd"): "checkpoint=/etc/passwd: choose one of tiny",
        ("vocoder", "loud"): "vocoder=loud: choose one of auto,",
        ("guidance", 99): "guidance=99",
        ("seed", -1): "seed=-1",
    }.items():
        with pytest.raises(InputError, match=sentence):
            converters.get(replace(default, **dict([wrong])))


def test_keeps_few_loaded_converters(converter, tmp_path):
    loaded = []

    def load(path):
        loaded.append(path.name)
        return converter

    paths = {name: tmp_path / name for name in "abcd"}
    kept = Converters(paths, {"v": None}, load, 0)
    for name in "aabcda":
        kept.get(replace(kept.default, checkpoint=name))
    assert loaded == ["a", "b", "c", "d", "a"]
    assert KEPT_CONVERTERS == 3


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
def test_errors_hide_folders(convert, tmp_path, name, content, seconds, sentence):
    path = broken(tmp_path, name, content, seconds)
    for source, targets in ((path, (TARGET,)), (SOURCE, (TARGET, path))):
        with pytest.raises(InputError, match=sentence) as caught:
            convert(source, targets)
        assert str(caught.value).startswith(name)
        assert str(tmp_path) not in str(caught.value)


def test_refuses_wrong_limits():
    for wrong in ({"max_requests": 0}, {"batch_seconds": "x"}, {"max_seconds": 0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            ServiceLimits(**LIMITS | wrong)


def test_checkpoints_of_one_name_are_reported(tmp_path, caplog):
    for name in ("a/net.ckpt", "b/net.ckpt", "b/other.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    made = serve.build_converters(
        composed("serve", f"checkpoints={tmp_path}", f"voices.dir={tmp_path}")
    )
    assert list(made.checkpoints) == ["shipped", "net", "other"]
    assert caplog.messages == [
        f"checkpoints: {tmp_path}/b/net.ckpt is left out: another one has this name"
    ]
