import numpy as np
import pytest

from vc_lightning import VoiceConverter
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.measuring import ConversionRequest, convert_and_measure
from vc_lightning.models.speaker_encoder import similarity
from vc_lightning.models.vocoders.factory import griffin_lim


@pytest.fixture
def converter(tiny_checkpoint):
    return VoiceConverter.from_checkpoint(
        tiny_checkpoint,
        vocoder=lambda mel: griffin_lim(mel, None, 1, n_iter=1, momentum=0.99),
        guidance=0,
    )


@pytest.fixture
def requests(converter, speech, other_speech):
    voice = converter.voice(other_speech)
    sources = [converter.analyze(wav) for wav in (speech[:32_000], speech)]
    return [ConversionRequest(source, voice) for source in sources]


def test_similarities_are_cosines(converter, requests, monkeypatch):
    result = np.eye(256, dtype=np.float32)[3]
    monkeypatch.setattr(converter, "embed", lambda _: result)
    for request, found in zip(requests, convert_and_measure(converter, requests, 1), strict=True):
        source, target = request.source.embedding, request.target.embedding
        assert found.before == similarity(source, target)
        assert found.to_target == similarity(result, target)
        assert found.to_source == similarity(result, source)
        assert found.unmeasured == ""


def test_reference_embedding(converter, requests, monkeypatch):
    result, target = np.eye(256, dtype=np.float32)[:2]
    target = target + result
    monkeypatch.setattr(converter, "embed", lambda _: result)
    request = ConversionRequest(requests[0].source, requests[0].target, target)
    (found,) = convert_and_measure(converter, [request], 1)
    assert found.before == similarity(request.source.embedding, target)
    assert found.to_target == pytest.approx(0.5**0.5)
    assert found.to_source == similarity(result, request.source.embedding)


def test_time_is_shared_by_length(converter, requests, monkeypatch):
    ticks = iter([10.0, 13.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    found = convert_and_measure(converter, requests, 1)
    lengths = [len(request.source.wav) for request in requests]
    assert [one.seconds for one in found] == pytest.approx(
        [3 * length / sum(lengths) for length in lengths]
    )
    wavs = converter.convert_analyzed(
        [request.source for request in requests], [request.target for request in requests], 1
    )
    assert all(np.array_equal(one.wav, wav) for one, wav in zip(found, wavs, strict=True))


def test_no_similarity_without_speech(converter, requests, monkeypatch):
    def refuse(wav):
        raise InputError("no speech")

    monkeypatch.setattr(converter, "embed", refuse)
    (found,) = convert_and_measure(converter, requests[:1], 0)
    assert (found.to_target, found.to_source, found.unmeasured) == (None, None, "no speech")
    assert -1 <= found.before <= 1
