import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers import SOURCE, TARGET, TINY, tiny_multiband, tiny_wavernn, write_wav
from vc_lightning import VoiceConverter
from vc_lightning.audio import pitch, spill_buffer
from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram, n_harmonics
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.conversion import analysis
from vc_lightning.conversion.voices.voice import Voice
from vc_lightning.models import checkpoints, pitch_tracker
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import Card
from vc_lightning.models.speaker_encoder import similarity
from vc_lightning.models.vocoders.factory import auto_vocoder, default_vocoder, griffin_lim, wavernn
from vc_lightning.models.vocoders.griffin_lim import vocoder as griffin_lim_module
from vc_lightning.models.vocoders.griffin_lim.vocoder import GriffinLim
from vc_lightning.models.vocoders.source_filter.network import SourceFilter


@pytest.fixture
def converter(tiny_checkpoint):
    return VoiceConverter.from_checkpoint(
        tiny_checkpoint,
        vocoder=lambda mel: griffin_lim(mel, None, 1, n_iter=2, momentum=0.99),
        guidance=0,
    )


@pytest.fixture(scope="module")
def pretrained():
    return VoiceConverter.from_pretrained()


def test_length_and_repeatability(converter, speech):
    wav = converter.convert(SOURCE, TARGET, seed=1)
    assert (wav.dtype, wav.shape) == (np.float32, speech.shape)
    assert np.isfinite(wav).all()
    assert np.array_equal(wav, converter.convert(str(SOURCE), [TARGET], seed=1))


def test_paths_and_arrays_agree(converter, speech, other_speech):
    by_array = converter.convert(speech, other_speech)
    assert np.array_equal(by_array, converter.convert(SOURCE, TARGET))


def test_targets_are_averaged(converter, speech, other_speech):
    halves = [other_speech[:70_000], other_speech[70_000:]]
    mean = converter.speaker_encoder.average([converter.embed(half) for half in halves])
    expected = converter.convert_to(speech, Voice(mean))
    assert np.array_equal(converter.convert(speech, halves), expected)
    assert not np.array_equal(converter.convert(speech, halves[0]), expected)


def test_conversion_equals_composed_networks(converter, speech, other_speech):
    mel = torch.from_numpy(converter.mel.extract(speech, 16_000))[None]
    voices = [torch.from_numpy(converter.embed(w))[None] for w in (speech, other_speech)]
    with torch.inference_mode():  # rounds as `convert` does: phases multiply small differences
        converted = converter.autovc(mel, *voices)[1].clamp(0, 1)
    wav = converter.vocoder.generate(converted, seed=0)[0, : len(speech)].numpy()
    np.testing.assert_allclose(converter.convert(speech, other_speech), wav, atol=1e-4)


def test_chunks_agree_with_whole(pretrained, speech, other_speech, monkeypatch):
    """Half a minute in chunks of ten seconds; 0.01 of a mel is a dB.

    The recogniser hears each chunk by itself, so what it hears differs a little.
    """
    recording = np.concatenate([speech, other_speech, speech, other_speech])[: 30 * 16_000]
    voice = pretrained.voice(other_speech)
    heard = pretrained.analyze(recording)
    assert len(pretrained.analyzer.chunks(recording)) == 1
    with torch.inference_mode():
        whole = torch.cat(list(pretrained.converted_mel(heard, voice)), dim=-1)
        monkeypatch.setattr(analysis, "CHUNK_SECONDS", 10)
        again = pretrained.analyze(recording)
        assert len(pretrained.analyzer.chunks(recording)) == 3
        cut = torch.cat(list(pretrained.converted_mel(again, voice)), dim=-1)
    assert np.mean(~np.isclose(again.f0, heard.f0, rtol=1e-6)) < 0.001
    assert cut.shape == whole.shape
    difference = (cut - whole).abs()
    assert difference.mean() < 0.01
    assert (difference > 0.1).float().mean() < 0.005


def test_long_recordings_stream_with_progress(converter, speech, other_speech, monkeypatch):
    recording = np.concatenate([speech, other_speech])  # 15 s
    voice = converter.voice(other_speech)
    whole = converter.convert_to(recording, voice)
    for name, seconds in (("CHUNK_SECONDS", 4), ("CONTEXT_SECONDS", 1)):
        monkeypatch.setattr(analysis, name, seconds)
    monkeypatch.setattr(spill_buffer, "MAX_IN_MEMORY", 0)
    monkeypatch.setattr(griffin_lim_module, "CHUNK_FRAMES", 200)
    told = []
    wav = converter.convert_to(recording, voice, progress=told.append)
    assert isinstance(wav, np.memmap)
    assert wav.shape == whole.shape
    assert np.isfinite(wav).all()
    assert told == sorted(told)
    assert len(set(told)) == 4 + 4 + 5  # chunks analyzed and converted, stretches of the sound
    assert 0 < told[0] < told[-1] == 1


def test_batch_equals_single_conversions(converter, speech, other_speech):
    sources = [converter.analyze(wav) for wav in (speech[:40_000], speech, other_speech)]
    voices = [converter.voice(wav) for wav in (other_speech, other_speech[:60_000], speech)]
    together = converter.convert_analyzed(sources, voices)
    for source, voice, wav in zip(sources, voices, together, strict=True):
        (alone,) = converter.convert_analyzed([source], [voice])
        assert wav.shape == alone.shape == source.wav.shape
        np.testing.assert_allclose(wav[:-2048], alone[:-2048], atol=1e-3)


def test_f0_is_moved_to_target_range(tmp_path, mel_settings, encoder, speech, other_speech):
    network = AutoVC(**TINY, f0=True)
    identity = checkpoints.identity("ge2e", encoder.state_dict())
    card = Card("autovc", network.arguments, mel_settings, identity)
    path = checkpoints.save(tmp_path / "told.safetensors", network.state_dict(), card)
    converter = VoiceConverter.from_checkpoint(path)
    voice = converter.voice(other_speech)
    contours = [
        pitch_tracker.track(converter.mel.prepare(wav, 16_000), 16_000, 256)
        for wav in (speech, other_speech)
    ]
    man, woman = (pitch.range_of([contour]) for contour in contours)
    assert voice.pitch == woman
    assert woman.centre - man.centre > 0.5  # octaves
    heard = []
    converter.autovc.decoder.register_forward_pre_hook(
        lambda _, arguments: heard.append(arguments[0][:, -n_harmonics(80) :])
    )
    converter.convert_to(speech, voice)
    voiced, octaves = heard[0][0, 0].numpy() > 0, heard[0][0, 1].numpy()
    assert np.array_equal(voiced, contours[0] > 0)
    assert np.median(octaves[voiced]) == pytest.approx(woman.centre - np.log2(150), abs=0.02)


def test_guidance_extrapolates(converter, tiny_checkpoint, speech, other_speech, monkeypatch):
    monkeypatch.setattr("vc_lightning.models.onednn.HAS_AMX", False)  # as below, all in float32
    heard = []

    class Vocoder(GriffinLim):
        def generate(self, mel, seed=0):
            heard.append(mel)
            return super().generate(mel, seed)

    guided = VoiceConverter.from_checkpoint(
        tiny_checkpoint, vocoder=lambda mel: Vocoder(mel, None, 1, 1, 0), guidance=0.5
    )
    guided.convert(speech, other_speech)
    mel = torch.from_numpy(converter.mel.extract(speech, 16_000))[None]
    source, target = (torch.from_numpy(converter.embed(w))[None] for w in (speech, other_speech))
    ours, theirs = (converter.autovc(mel, source, voice)[1] for voice in (source, target))
    assert (theirs - ours).abs().max() > 1e-3
    expected = (theirs + 0.5 * (theirs - ours)).clamp(0, 1)
    torch.testing.assert_close(heard[0], expected, rtol=0, atol=1e-4)
    guided.convert(speech, speech)
    torch.testing.assert_close(heard[1], ours.clamp(0, 1), rtol=0, atol=1e-4)


def test_contrast_of_the_weights_or_of_the_caller(tmp_path, tiny_autovc, tiny_checkpoint, speech):
    card = checkpoints.read_autovc(tiny_checkpoint)[1]
    card = replace(card, network=card.network | {"contrast": 0.25})
    path = checkpoints.save(tmp_path / "a.safetensors", tiny_autovc.state_dict(), card)
    own, plain, flat = (
        VoiceConverter.from_checkpoint(path, contrast=contrast) for contrast in (None, 0.0, 0.25)
    )
    assert (own.autovc.contrast, plain.autovc.contrast) == (0.25, 0)
    source = plain.analyze(speech)
    own_voice = Voice(source.embedding, source.pitch)
    mels = [next(iter(one.converted_mel(source, own_voice))) for one in (own, plain, flat)]
    torch.testing.assert_close(mels[0], own.autovc.sharpened(mels[1]))
    assert torch.equal(mels[0], mels[2])
    assert (mels[0] - mels[1]).abs().max() > 1e-3
    with pytest.raises(InputError, match=r"^contrast=9: give a number from 0"):
        VoiceConverter.from_checkpoint(path, contrast=9)


def test_guidance_default_and_limits(tiny_checkpoint):
    default = resources.settings("", "converter")["guidance"]
    assert VoiceConverter.from_checkpoint(tiny_checkpoint).guidance == default
    with pytest.raises(InputError, match=r"^guidance=-1: give a number from 0"):
        VoiceConverter.from_checkpoint(tiny_checkpoint, guidance=-1)


def test_networks_are_frozen(converter):
    assert not converter.training
    assert not any(parameter.requires_grad for parameter in converter.parameters())


def test_shipped_converter_changes_voice(pretrained, speech, other_speech):
    wav = pretrained.convert(SOURCE, TARGET)
    source, target, result = (pretrained.embed(w) for w in (speech, other_speech, wav))
    assert similarity(result, target) > similarity(source, target)
    assert similarity(result, source) < 0.8
    copy = pretrained.resynthesize(SOURCE)
    assert similarity(pretrained.embed(copy), source) > 0.8


@pytest.mark.parametrize(
    ("wav", "reason"),
    [
        (np.zeros(16_000, "f4"), "silent"),
        (np.full(16_000, np.nan, "f4"), "NaN"),
        (np.zeros((2, 16_000), "f4"), "shape"),
        (np.ones(16_000, "i2"), "int16"),
        (np.zeros(0, "f4"), "empty"),
        (0.1 * np.ones(100, "f4"), "short|no speech"),
        (0.01 * np.random.default_rng(0).standard_normal(32_000).astype("f4"), "no speech"),
    ],
)
def test_refuses_unusable_recordings(converter, speech, tmp_path, wav, reason):
    with pytest.raises(InputError, match=reason):
        converter.convert(wav, speech)
    with pytest.raises(InputError, match=reason):
        converter.convert(speech, wav)
    if wav.ndim == 1 and wav.dtype == np.float32:
        path = write_wav(tmp_path / "bad.wav", wav, subtype="FLOAT")
        with pytest.raises(InputError, match=re.escape(f"{path}: ")):
            converter.convert(path, speech)


def test_refuses_missing_target(converter, speech):
    with pytest.raises(InputError, match="no target"):
        converter.convert(speech, [])


@pytest.fixture
def wavernn_file(tmp_path, mel_settings):
    """An untrained WaveRNN for the autovc mels."""
    network = tiny_wavernn(n_mels=80, upsample_factors=(4, 8, 8)).float()
    card = Card("wavernn", network.arguments, mel_settings)
    return checkpoints.save(tmp_path / "wavernn.safetensors", network.state_dict(), card)


def test_auto_vocoder_needs_same_mels(wavernn_file, mel_settings, tmp_path):
    def fallback(mel):
        return griffin_lim(mel, None, 1, n_iter=1, momentum=0)

    mel = MelSpectrogram(**mel_settings)
    assert auto_vocoder(mel, wavernn_file, fallback).mel_settings == mel_settings
    other = MelSpectrogram(**resources.settings("mel", "wavernn"))
    assert isinstance(auto_vocoder(other, wavernn_file, fallback), GriffinLim)
    assert isinstance(auto_vocoder(mel, None, fallback), GriffinLim)
    with pytest.raises(InputError, match="no such file"):
        auto_vocoder(mel, tmp_path / "missing", fallback)
    with pytest.raises(InputError, match="hop_length 256 != 275"):
        wavernn(other, wavernn_file)


def test_wavernn_temperature(tmp_path, mel_settings, wavernn_file):
    network = tiny_multiband(n_mels=80, hop_length=256, temperature=0.6).float()
    card = Card(network.kind, network.arguments, mel_settings)
    path = checkpoints.save(tmp_path / "multiband.safetensors", network.state_dict(), card)
    mel = MelSpectrogram(**mel_settings)
    assert wavernn(mel, path).temperature == 0.6
    assert wavernn(mel, path, 0.3).temperature == 0.3
    assert wavernn(mel, path, [0.7, 1.0]).temperature == [0.7, 1.0]
    with pytest.raises(InputError, match=r"vocoder.temperature=0.3: .* is not a multi-band"):
        wavernn(mel, wavernn_file, 0.3)
    for wrong in (3.0, [0.7, 3.0]):
        with pytest.raises(InputError, match=r"vocoder\.temperature=3.0: give a number from 0"):
            wavernn(mel, path, wrong)
    for wrong in ([], "0.7"):
        with pytest.raises(InputError, match=r"vocoder\.temperature=.*: give a number from 0"):
            wavernn(mel, path, wrong)


def test_griffin_lim_network_needs_same_mels(mel_settings, tmp_path, caplog):
    settings = {"sharpness": 1, "n_iter": 1, "momentum": 0}
    mel = MelSpectrogram(**mel_settings)
    other = MelSpectrogram(**resources.settings("mel", "wavernn"))
    shipped = griffin_lim(mel, "shipped", **settings)
    assert shipped.network.mel_settings == mel_settings
    log_mel = torch.rand(1, 80, 3)
    expected = mel.amplitude(shipped.network(log_mel, mel.spectrum(log_mel)))
    torch.testing.assert_close(shipped.magnitude(log_mel), expected)

    with caplog.at_level("INFO"):
        without = griffin_lim(other, "shipped", **settings)
    assert without.network is None
    assert "hop_length 256 != 275" in caplog.text
    torch.testing.assert_close(without.magnitude(log_mel), other.amplitude(other.spectrum(log_mel)))
    assert griffin_lim(mel, None, **settings).network is None
    with pytest.raises(InputError, match="hop_length 256 != 275"):
        griffin_lim(other, resources.weights("griffin_lim"), **settings)
    with pytest.raises(InputError, match="no such file"):
        griffin_lim(mel, tmp_path / "missing", **settings)


def test_default_vocoder(mel_settings):
    assert isinstance(default_vocoder(MelSpectrogram(**mel_settings)), SourceFilter)
    other = MelSpectrogram(**resources.settings("mel", "wavernn"))
    assert isinstance(default_vocoder(other), GriffinLim)


def test_wavernn_vocoder(tiny_checkpoint, wavernn_file, speech, other_speech):
    converter = VoiceConverter.from_checkpoint(
        tiny_checkpoint, vocoder=lambda mel: wavernn(mel, wavernn_file)
    )
    wav = converter.convert(speech[:16_000], other_speech[:32_000])
    assert wav.shape == (16_000,)
    assert np.abs(wav).max() <= 1


def test_refuses_mismatched_parts(tiny_checkpoint, tmp_path, mel_settings):
    state, card = checkpoints.read(tiny_checkpoint, "autovc")
    path = tmp_path / "other.safetensors"

    def changed(**values):
        return checkpoints.save(path, state, Card(**{**vars(card), **values}))

    with pytest.raises(InputError, match="speaker encoder is ge2e"):
        VoiceConverter.from_checkpoint(changed(speaker_encoder="d_vector"))
    with pytest.raises(InputError, match="says n_mels 80 for the network, None for the mels"):
        VoiceConverter.from_checkpoint(changed(mel={"hop_length": 200}))
    other = MelSpectrogram(**mel_settings | {"ref_db": 20})
    with pytest.raises(InputError, match="ref_db 20 != 16"):
        VoiceConverter.from_checkpoint(
            tiny_checkpoint, vocoder=lambda _: griffin_lim(other, None, 1, n_iter=1, momentum=0)
        )


def test_resamples_other_rates(converter, speech, other_speech, tmp_path):
    path = write_wav(tmp_path / "a.wav", io.resample(speech, 16_000, 44_100), 44_100)
    wav = converter.convert(path, other_speech)
    assert abs(len(wav) - len(speech)) <= 1
