"""What the recogniser hears in the converter's mels."""

import pytest
import torch

from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.audio.mel_filters import mel_frequencies
from vc_lightning.common import resources
from vc_lightning.common.resources import settings
from vc_lightning.models.checkpoints import load_recogniser
from vc_lightning.models.critics.word import WordCritic, between_frames, feature_distance
from vc_lightning.models.recogniser import Recogniser


@pytest.mark.parametrize("name", ["autovc", "wavernn"])
def test_hears_in_a_mel_what_it_hears_in_the_sound(name):
    mel = MelSpectrogram(**settings("mel", name))
    recording = io.load(resources.ROOT / "examples/source.wav")
    wav = mel.leveled(*recording)
    critic = WordCritic(load_recogniser(), mel)
    sound = torch.from_numpy(io.resample(wav, mel.sample_rate, 16_000))
    with torch.inference_mode():
        expected = critic.recogniser(critic.recogniser.mel(sound)[None]).transpose(1, 2)
        heard = critic(mel(torch.from_numpy(wav))[None])
        backwards = critic(mel(torch.from_numpy(wav[::-1].copy()))[None])
    n = expected.shape[-1]
    assert heard.shape[1] == 512
    assert abs(heard.shape[-1] - n) <= 1
    deviation = expected - expected.mean(dim=2, keepdim=True)
    std = deviation.std(dim=2, keepdim=True)

    def error(features):
        difference = (features[..., : n - 1] - expected[..., : n - 1]) / std
        return float(difference.square().mean() / (deviation / std).square().mean())

    assert error(heard) < 0.2
    assert error(backwards) > 1


def test_values_between_frames_are_interpolated():
    ramp = torch.tensor([[0.0, 10.0, 20.0, 40.0]])
    assert between_frames(ramp, 0.5).tolist() == [[0, 5, 10, 15, 20, 30, 40, 40]]
    assert between_frames(ramp, 2.0).tolist() == [[0, 20]]


def test_bands_are_interpolated_by_their_frequencies():
    mel = MelSpectrogram(**settings("mel", "autovc"))
    critic = WordCritic(load_recogniser(), mel)
    torch.testing.assert_close(critic.between_bands.sum(dim=1), torch.ones(80))
    wanted = torch.from_numpy(mel_frequencies(82, 0, 8000)[1:-1]).float()
    known = (wanted >= mel.band_centres[0]) & (wanted <= mel.band_centres[-1])
    assert 70 < known.sum() < 80
    frequencies = critic.between_bands @ mel.band_centres
    torch.testing.assert_close(frequencies[known], wanted[known])
    assert frequencies[0] == mel.band_centres[0]  # below it there is nothing to interpolate
    assert not any(p.requires_grad for p in critic.parameters())


def test_hears_thirty_seconds_at_most():
    mel = MelSpectrogram(**settings("mel", "autovc"))
    critic = WordCritic(Recogniser(80, 6, n_layers=1, n_heads=1), mel)
    assert critic(torch.rand(1, 80, 2500)).shape == (1, 6, 1500)  # of 40 s


def test_distance_is_relative_to_the_variance_of_each_feature():
    wanted = torch.tensor([[[0.0, 2.0], [10.0, 30.0]], [[0.0, 2.0], [10.0, 30.0]]])  # var 1, 100
    heard = wanted + torch.tensor([0.5, 10.0])[:, None]
    assert feature_distance(heard, wanted).item() == pytest.approx((0.25 + 1) / 2)
    silent = torch.zeros(1, 2, 3)
    assert feature_distance(silent + 0.1, silent).item() == pytest.approx(1)
