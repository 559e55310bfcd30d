"""A network that listens: files are heard by the recogniser, streams by the live encoder."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import SOURCE, TARGET, TINY, refusal
from vc_lightning import VoiceConverter
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.errors import InputError
from vc_lightning.conversion import analysis
from vc_lightning.conversion.networks import Networks
from vc_lightning.models import checkpoints
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.files.formats import Card
from vc_lightning.models.live_adapter import LiveAdapter
from vc_lightning.models.recogniser import Recogniser
from vc_lightning.models.vocoders.factory import griffin_lim
from vc_lightning.training.transfer import add_reference


def small_recogniser(dim=8):
    torch.manual_seed(0)
    return Recogniser(n_mels=80, dim=dim, n_layers=1, n_heads=2).eval()


@pytest.fixture
def recogniser_file(tmp_path, monkeypatch):
    """A small recogniser in place of the shipped one."""
    network = small_recogniser()
    path = tmp_path / "recogniser.safetensors"
    checkpoints.save(path, network.state_dict(), Card(network.kind, network.arguments, {}))
    load = checkpoints.load_recogniser
    monkeypatch.setattr(checkpoints, "load_recogniser", lambda: load(path))
    return path


@pytest.fixture
def listening(tmp_path, mel_settings, encoder):
    """Weights of an untrained network that listens."""
    torch.manual_seed(0)
    network = AutoVC(**TINY, dim_features=8, f0=True)
    identity = checkpoints.identity("ge2e", encoder.state_dict())
    card = Card("autovc", network.arguments, mel_settings, identity)
    return checkpoints.save(tmp_path / "listening.safetensors", network.state_dict(), card)


@pytest.fixture
def converter(listening, recogniser_file):
    return VoiceConverter.from_checkpoint(
        listening, vocoder=lambda mel: griffin_lim(mel, None, 1, n_iter=1, momentum=0), guidance=0
    )


def test_file_is_heard_by_the_recogniser(converter, speech, other_speech):
    recording, voice = converter.analyze(speech), converter.voice(other_speech)
    prepared = converter.mel.prepare(speech, 16_000)
    heard = converter.networks.recogniser.hear(prepared, recording.n_frames, 62.5)
    np.testing.assert_allclose(recording.content, heard, atol=1e-5)
    embedding = torch.from_numpy(recording.embedding)[None]
    with torch.inference_mode():
        codes = converter.autovc.encode(torch.from_numpy(heard.T)[None], embedding)[0]
    np.testing.assert_allclose(converter.codes(recording), codes, atol=1e-5)
    wav = converter.convert_to(speech, voice)
    assert wav.shape == speech.shape
    assert np.isfinite(wav).all()


def test_the_source_is_embedded_on_demand(
    listening, converter, tiny_checkpoint, speech, other_speech, monkeypatch
):
    """By guidance, by who asks for it, and where the network reads mels; else nobody needs it."""
    voice = converter.voice(other_speech)
    encoder, calls = converter.speaker_encoder, []
    embed = encoder.embed_recording
    monkeypatch.setattr(
        type(encoder), "embed_recording", lambda _, *given: calls.append(1) or embed(*given)
    )
    converter.convert_to(speech, voice)
    recording = converter.analyze(speech)
    assert converter.codes(recording).shape[0] == 2 * converter.autovc.arguments["dim_neck"]
    assert not calls
    np.testing.assert_array_equal(recording.embedding, converter.embed(speech))
    assert recording.embedding is recording.embedding
    assert len(calls) == 2
    now = converter.analyze(speech, embeds=True)
    assert len(calls) == 3
    np.testing.assert_array_equal(now.embedding, recording.embedding)
    VoiceConverter(converter.networks, 0.5, "").convert_to(speech, voice)
    assert len(calls) == 4
    VoiceConverter.from_checkpoint(tiny_checkpoint).analyze(speech)
    assert len(calls) == 5


def test_chunks_are_heard_one_by_one(converter, speech, other_speech, monkeypatch):
    whole = converter.analyze(other_speech)
    monkeypatch.setattr(analysis, "CHUNK_SECONDS", 4)
    cut = converter.analyze(other_speech)
    assert len(cut.chunks) == 2
    assert len(cut.content) > cut.n_frames == whole.n_frames
    assert converter.codes(cut).shape == converter.codes(whole).shape
    assert converter.convert_to(other_speech, converter.voice(speech)).shape == other_speech.shape


def test_stream_uses_the_live_encoder(converter, speech, other_speech, monkeypatch):
    voice = converter.voice(other_speech)
    calls = []
    converter.autovc.live_encoder.register_forward_hook(lambda *_: calls.append("live"))
    converter.autovc.encoder.register_forward_hook(lambda *_: calls.append("listening"))
    stream = converter.stream(voice)
    wav = np.concatenate([stream.push(speech[:16_000]), stream.flush()])
    assert wav.shape == (16_000,)
    assert set(calls) == {"live"}


def test_streams_hear_by_a_recogniser_of_their_own(converter, speech, other_speech, monkeypatch):
    """It is made for the first stream; files are heard as before."""
    adapter = LiveAdapter(dim=8, n_layers=1, rank=1)
    torch.nn.init.ones_(adapter.norm.bias)
    loads = []
    monkeypatch.setattr(checkpoints, "load_live_adapter", lambda: loads.append(1) or adapter)
    before = converter.analyze(speech).content
    voice = converter.voice(other_speech)
    assert not loads
    streams = [converter.stream(voice, listens=True) for _ in range(2)]
    assert loads == [1]
    own = converter.networks.live_recogniser()
    assert all(stream._hearing.recogniser is own for stream in streams)
    assert own is not converter.networks.recogniser
    assert torch.equal(own.norm.bias, adapter.norm.bias)
    np.testing.assert_array_equal(converter.analyze(speech).content, before)


def attending(path):
    """The same weights with an attention to the target's frames that changes the mel."""
    network, card = checkpoints.read_autovc(path)
    made = add_reference(network, 16)
    torch.nn.init.normal_(made.reference.output.weight, std=0.2)
    card = replace(card, network=made.arguments)
    return checkpoints.save(path, made.state_dict(), card)


def test_target_is_a_reference(listening, converter, speech, other_speech, monkeypatch):
    """In files and in streams, from recordings that were analyzed as a source or as a target."""
    attending(listening)
    plain, converter = (
        converter,
        VoiceConverter.from_checkpoint(
            listening,
            vocoder=lambda mel: griffin_lim(mel, None, 1, n_iter=1, momentum=0),
            guidance=0,
        ),
    )
    voice = converter.voice(other_speech)
    n_frames = len(other_speech) // 256 + 1
    assert voice.reference.shape == (n_frames, 128 + 80)
    mel = converter.analyzer.mel_of(*converter.analyzer.leveled(other_speech)).T.numpy()
    frames = voice.reference[:, -80:]
    assert not np.array_equal(frames, mel)  # nobody can hear the words, but all frames are there
    np.testing.assert_allclose(np.sort(frames, axis=0), np.sort(mel, axis=0), atol=1e-5)
    analyzed = converter.voice_from([converter.analyze(other_speech)])
    np.testing.assert_allclose(analyzed.reference, voice.reference, atol=1e-5)

    made = converter.convert_to(speech, voice)
    without = converter.convert_to(speech, replace(voice, reference=None))
    np.testing.assert_allclose(without, plain.convert(speech, other_speech), atol=1e-5)
    assert np.abs(made - without).max() > 0.01
    streams = [converter.stream(one) for one in (voice, replace(voice, reference=None))]
    live = [np.concatenate([s.push(speech), s.flush()]) for s in streams]
    assert np.abs(live[0] - live[1]).max() > 0.01
    assert plain.voice(other_speech).reference is None
    for wrong in (
        voice.reference[:, 1:],
        np.full_like(voice.reference, np.inf),
        voice.reference[0],
    ):
        with pytest.raises(InputError, match="give finite frames of 208 numbers"):
            converter.convert_to(speech, replace(voice, reference=wrong))

    monkeypatch.setattr(analysis, "REFERENCE_SECONDS", 2)
    monkeypatch.setattr("vc_lightning.conversion.converter.REFERENCE_SECONDS", 3)
    both = converter.voice([speech, other_speech])
    first = converter.voice(speech).reference
    assert len(first) == converter.analyzer.frames(2)
    assert len(both.reference) == converter.analyzer.frames(3)
    assert np.array_equal(both.reference[: len(first)], first)


def test_filters_a_short_target_once(listening, recogniser_file, speech, monkeypatch):
    attending(listening)
    converter = VoiceConverter.from_checkpoint(listening)
    lengths = []
    filtered = MelSpectrogram.filtered

    def counted(mel, wav):
        lengths.append(len(wav))
        return filtered(mel, wav)

    monkeypatch.setattr(MelSpectrogram, "filtered", counted)
    sample = converter.sample(speech)
    assert lengths == [len(speech)]
    monkeypatch.setattr(analysis, "REFERENCE_SECONDS", 2)  # a long one: its start and the whole
    lengths.clear()
    np.testing.assert_array_equal(converter.sample(speech).f0, sample.f0)
    assert len(lengths) == 2


def test_another_vocoder_keeps_the_networks(converter, speech):
    networks = converter.networks
    vocoder = griffin_lim(converter.mel, None, 1, n_iter=2, momentum=0)
    other = networks.with_vocoder(vocoder)
    assert (other.vocoder, other.recogniser, other.autovc) == (
        *(vocoder, networks.recogniser, networks.autovc),
    )
    assert networks.vocoder is not vocoder
    assert VoiceConverter(other, 0.0, "").convert(speech, speech).shape == speech.shape


def test_refuses_another_recogniser(converter):
    parts = vars(converter.networks)["_modules"]
    with pytest.raises(InputError, match="listens to 8 features of a recogniser, which gives 16"):
        Networks(
            parts["autovc"],
            converter.card,
            parts["speaker_encoder"],
            converter.networks.encoder_identity,
            parts["mel"],
            parts["vocoder"],
            small_recogniser(16),
        )


@pytest.mark.parametrize("is_there", [False, True])
def test_bad_recogniser_file_is_one_sentence(listening, recogniser_file, is_there, tmp_path):
    if is_there:
        recogniser_file.write_bytes(recogniser_file.read_bytes()[:-100])
    else:
        recogniser_file.unlink()
    output = tmp_path / "a.wav"
    code, text = refusal(
        "convert", f"source={SOURCE}", f"target={TARGET}", f"ckpt={listening}", f"output={output}"
    )
    assert code == 2
    assert text.count("\n") == 1
    assert str(recogniser_file) in text
    assert not output.exists()


def test_reading_networks_need_no_recogniser(tiny_checkpoint, recogniser_file, tmp_path):
    recogniser_file.unlink()
    assert VoiceConverter.from_checkpoint(tiny_checkpoint).networks.recogniser is None
