import numpy as np
import pytest
import torch
from scipy import signal

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.models.vocoders import factory
from vc_lightning.models.vocoders.griffin_lim import vocoder as griffin_lim
from vc_lightning.models.vocoders.griffin_lim.network import GriffinLimNet
from vc_lightning.models.vocoders.griffin_lim.vocoder import GriffinLim


def shipped(mel):
    """Griffin-Lim as `vocoder=griffin_lim` builds it."""
    return factory.griffin_lim(mel, **resources.settings("vocoder", "griffin_lim"))


@pytest.mark.parametrize("n_frames", [1, 2, 77])
def test_length_and_seed(mel_settings, n_frames):
    vocoder = shipped(MelSpectrogram(**mel_settings))
    mel = torch.rand(1, 80, n_frames)
    wav = vocoder.generate(mel, seed=4)
    assert wav.shape == (1, n_frames * 256)
    assert torch.isfinite(wav).all()
    assert torch.equal(wav, vocoder.generate(mel, seed=4))
    assert not torch.equal(wav, vocoder.generate(mel, seed=5))


@pytest.mark.parametrize("name", ["autovc", "wavernn"])
def test_reproduces_mel(name, speech):
    mel = MelSpectrogram(**resources.settings("mel", name))
    wanted = torch.from_numpy(mel.extract(speech, 16_000))[None, :, :100]
    vocoder = GriffinLim(mel, None, sharpness=1, n_iter=30, momentum=0.99)
    wav = vocoder.generate(wanted, seed=3)
    assert wav.shape == (1, 100 * mel.hop_length)
    again = mel(mel.settings["gain"] * wav)[..., :100]
    assert (again - wanted).abs().mean() < 0.04
    assert torch.equal(wav, vocoder.generate(wanted, seed=3))


def test_single_frame(mel_settings):
    mel = MelSpectrogram(**mel_settings)
    wav = GriffinLim(mel, None, 1, n_iter=2, momentum=0.99).generate(torch.rand(2, 80, 1))
    assert wav.shape == (2, 256)
    assert torch.isfinite(wav).all()


def test_sharpening_keeps_power(mel_settings):
    vocoder = GriffinLim(MelSpectrogram(**mel_settings), None, 1.5, n_iter=1, momentum=0)
    magnitude = torch.tensor([[[1.0, 1e-6], [4.0, 1e-6]]])
    expected = torch.tensor([1.0, 8.0]) * (17 / 65) ** 0.5
    torch.testing.assert_close(vocoder.sharpened(magnitude)[0, :, 0], expected)
    torch.testing.assert_close(vocoder.sharpened(magnitude)[..., 1], magnitude[..., 1])


def test_chunks_continue_phases(mel_settings, monkeypatch):
    """A hum of partials up to 2.4 kHz: a seam would click, which is heard above 4 kHz."""
    mel = MelSpectrogram(**mel_settings)
    seconds = np.arange(5 * 16_000) / 16_000
    hum = 0.02 * sum(np.sin(2 * np.pi * 220 * k * seconds) for k in range(1, 12))
    vocoder = shipped(mel)
    monkeypatch.setattr(griffin_lim, "CHUNK_FRAMES", 64)
    pieces = list(vocoder.generate_stream(mel(torch.from_numpy(hum).float())[None]))
    assert [piece.shape[1] for piece in pieces[:2]] == [63 * 256, 64 * 256]
    wav = torch.cat(pieces, dim=1)[0].numpy()
    high = signal.sosfilt(signal.butter(8, 4000, "highpass", output="sos", fs=16_000), wav)
    frames = np.lib.stride_tricks.sliding_window_view(high, 512)[::256]
    decibels = 10 * np.log10(np.square(frames).mean(axis=1))
    around = np.arange(63, 255, 64)[:, None] + np.arange(-2, 3)
    assert decibels[around].max() < np.median(decibels) + 1


@pytest.mark.parametrize("n_frames", [64, 65, 80, 81, 143, 144, 145])
def test_chunks_cover_mel(mel_settings, monkeypatch, n_frames):
    monkeypatch.setattr(griffin_lim, "CHUNK_FRAMES", 64)
    vocoder = GriffinLim(MelSpectrogram(**mel_settings), None, 1, n_iter=1, momentum=0)
    wav = vocoder.generate(torch.rand(2, 80, n_frames))
    assert wav.shape == (2, n_frames * 256)
    assert torch.isfinite(wav).all()


def test_chunk_converges_to_fixed_part(mel_settings, speech, monkeypatch):
    """Else it would be another wave, half of which is lost where one fades into the other."""
    mel = MelSpectrogram(**mel_settings)
    vocoder = shipped(mel)
    monkeypatch.setattr(griffin_lim, "CHUNK_FRAMES", 64)
    continued, similarities = GriffinLim._continued, []

    def spied(self, spectrum, held):
        if held is not None:
            free = continued(self, spectrum, None)[:, : held.shape[1]]
            fading = slice(-mel.hop_length, None)
            similarities.append(torch.cosine_similarity(free[:, fading], held[:, fading]).item())
        return continued(self, spectrum, held)

    monkeypatch.setattr(GriffinLim, "_continued", spied)
    list(vocoder.generate_stream(torch.from_numpy(mel.extract(speech, 16_000))[None]))
    at_the_end = similarities[vocoder.n_iter :: vocoder.n_iter + 1]
    assert len(at_the_end) == 5
    assert min(at_the_end) > 0.9


def test_refuses_network_without_spectra(mel_settings):
    """Its weights are finite, so that they have been read."""
    network = GriffinLimNet(80, 513, dim=4, n_blocks=1)
    torch.nn.init.constant_(network.output.bias, 1e30)
    vocoder = GriffinLim(MelSpectrogram(**mel_settings), network, 1, n_iter=1, momentum=0)
    with pytest.raises(InputError, match="louder than any sound"):
        vocoder.generate(torch.rand(1, 80, 3))


def test_chunk_length_of_short_hops(mel_settings, monkeypatch):
    """A window must fit into what a stretch is held to."""
    monkeypatch.setattr(griffin_lim, "CHUNK_FRAMES", 64)
    mel = MelSpectrogram(**mel_settings | {"hop_length": 16})
    vocoder = GriffinLim(mel, None, 1, n_iter=1, momentum=0)
    pieces = list(vocoder.generate_stream(torch.rand(1, 80, 1200)))
    assert [piece.shape[1] for piece in pieces] == [511 * 16, 689 * 16]
    assert all(torch.isfinite(piece).all() for piece in pieces)
