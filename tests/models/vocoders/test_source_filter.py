"""The source-filter vocoder and its sources."""

import numpy as np
import pytest
import torch

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.errors import InputError
from vc_lightning.models import checkpoints
from vc_lightning.models.checkpoints import Card
from vc_lightning.models.vocoders.source_filter import network as source_filter
from vc_lightning.models.vocoders.source_filter.excitation import (
    DEFAULT_HZ,
    pulse_train,
    without_gaps,
)
from vc_lightning.models.vocoders.source_filter.network import SourceFilter

SIZES = {
    "n_mels": 80,
    "hop_length": 256,
    "sample_rate": 16_000,
    "n_fft": 512,
    "steps": 2,
    "dim": 8,
    "n_blocks": 1,
    "dim_pitch": 8,
    "pitch_blocks": 1,
}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return SourceFilter(**SIZES).eval()


def test_unvoiced_frames_continue_the_last_pitch():
    f0 = torch.tensor([[0.0, 100, 0, 0, 200, 0], [0, 0, 0, 0, 0, 0]])
    expected = torch.tensor([[DEFAULT_HZ, 100, 100, 100, 200, 200], [DEFAULT_HZ] * 6])
    assert torch.equal(without_gaps(f0), expected)


def test_pulses_equal_sum_of_harmonics():
    pulses, phase = pulse_train(torch.full((1, 3), 1100.0), 160, 16_000, torch.zeros(1).double())
    t = np.arange(320) / 16_000
    cosines = sum(np.cos(2 * np.pi * k * 1100 * t) for k in range(1, 8))
    np.testing.assert_allclose(pulses[0], cosines * np.sqrt(2 / 7), atol=1e-5)
    assert phase.item() == pytest.approx(1100 * 320 / 16_000 % 1)
    assert pulses.square().mean().item() == pytest.approx(1, abs=0.05)


def test_pulses_continue_between_chunks():
    f0 = torch.linspace(100, 300, 9)[None]
    start = torch.tensor([0.3], dtype=torch.float64)
    whole, end = pulse_train(f0, 256, 16_000, start)
    first, phase = pulse_train(f0[:, :5], 256, 16_000, start)
    second, last = pulse_train(f0[:, 4:], 256, 16_000, phase)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(last, end)


def test_flat_filters_return_the_sources(network):
    pulses, noise = torch.randn(2, 4096), torch.randn(2, 4096)
    flat = torch.zeros(2, 257, 34)
    both = network.filtered(pulses, noise, flat.to(torch.complex64), flat)
    torch.testing.assert_close(both, pulses + noise, atol=1e-5, rtol=1e-5)


def test_stream_equals_whole(network, monkeypatch):
    mel = torch.rand(2, 80, 75)
    network.head.weight.data.normal_(std=0.1)
    network.pitch.head.bias.data[1:] += 3  # voiced
    whole = network.generate(mel, seed=3)
    assert whole.shape == (2, 75 * 256)
    monkeypatch.setattr(source_filter, "CHUNK_FRAMES", 10)
    pieces = list(network.generate_stream(mel, seed=3))
    assert len(pieces) == 8
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=2e-4, rtol=1e-3)
    assert not torch.equal(network.generate(mel, seed=4), whole)


def test_batch_equals_single(network):
    mel = torch.rand(2, 80, 20)
    network.pitch.head.bias.data[30] = 20  # one pitch, whatever rounding does to the others
    torch.testing.assert_close(
        network.generate(mel)[1:], network.generate(mel[1:]), atol=1e-5, rtol=1e-4
    )


def test_initial_output_has_speech_spectrum(network, mel_settings, speech):
    mel = MelSpectrogram(**mel_settings)
    wav = torch.from_numpy(mel.prepare(speech, 16_000))[: 300 * 256]
    features = mel(wav)[None, :, :300]
    before = mel(network.generate(features)[0])[:, :300]
    network.initialize_output(wav[None], features)
    after = mel(network.generate(features)[0])[:, :300]
    errors = [(made - features[0]).abs().mean().item() for made in (before, after)]
    assert errors[1] < 0.08 < errors[0]  # 8 dB, with noise and pulses everywhere


def test_file_round_trips(network, tmp_path, mel_settings):
    card = Card("source_filter", network.arguments, mel_settings, step=5)
    path = checkpoints.save(tmp_path / "a.safetensors", network.state_dict(), card)
    loaded = checkpoints.load_vocoder(path)
    mel = torch.rand(1, 80, 12)
    assert torch.equal(loaded.generate(mel), network.generate(mel))
    assert loaded.mel_settings == mel_settings
    wrong = Card("source_filter", network.arguments | {"hop_length": 128}, mel_settings)
    checkpoints.save(path, network.state_dict(), wrong)
    with pytest.raises(InputError, match="hop_length"):
        checkpoints.load_vocoder(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("steps", 3, "steps=3"), ("n_fft", 128, "n_fft=128"), ("n_fft", 513, "even number")],
)
def test_refuses_mismatched_sizes(key, value, message):
    with pytest.raises(InputError, match=message):
        SourceFilter(**SIZES | {key: value})
