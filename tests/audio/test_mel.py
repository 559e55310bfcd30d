import librosa
import numpy as np
import pytest
import torch
from scipy import signal

from vc_lightning.audio import voice_activity
from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram, require_same_settings
from vc_lightning.audio.mel_filters import mel_filters
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.models.speaker_encoder import PowerMel, power_spectra


def test_harmonics_of_tone(mel_settings):
    """The comb of a pitch and the mel of a tone of that pitch rise and fall together."""
    mel = MelSpectrogram(**mel_settings)
    seconds = np.arange(16_000) / 16_000
    tone = sum(np.sin(2 * np.pi * 250 * k * seconds) for k in range(1, 30)).astype(np.float32)
    spectrum = mel(torch.from_numpy(0.01 * tone))[:22, 30]  # bands up to 1 kHz
    harmonics = mel.harmonics(torch.tensor([[250.0, 0.0, 190.0]]))[0]
    assert harmonics.shape == (82, 3)
    agreement = [np.corrcoef(spectrum, harmonics[2:24, frame])[0, 1] for frame in (0, 2)]
    assert agreement[0] > 0.8 > 0.4 > agreement[1]
    assert harmonics[0].tolist() == [1, 0, 1]
    assert harmonics[1, 0] == pytest.approx(np.log2(250 / 150))
    assert not harmonics[:, 1].any()
    low = mel.harmonics(torch.tensor([[80.0]]))[0]
    assert low[2:12].abs().max() > 0.5 > 0.01 > low[-20:].abs().max()  # too wide to tell them apart


@pytest.mark.parametrize("name", ["autovc", "wavernn"])
def test_mel_equals_librosa(name, speech):
    settings = resources.settings("mel", name)
    mel = MelSpectrogram(**settings)
    wav = mel.prepare(speech, 16_000)
    amplitude = librosa.feature.melspectrogram(
        y=wav,
        sr=settings["sample_rate"],
        n_fft=settings["n_fft"],
        hop_length=settings["hop_length"],
        win_length=settings["win_length"],
        n_mels=80,
        fmin=settings["fmin"],
        fmax=settings["fmax"],
        power=1.0,
        pad_mode="reflect",
    )
    decibels = 20 * np.log10(np.maximum(1e-5, amplitude)) - settings["ref_db"]
    expected = np.clip((decibels + 100) / 100, 0, 1)
    np.testing.assert_allclose(mel(torch.from_numpy(wav)).numpy(), expected, atol=2e-4)
    assert expected.shape[1] == len(wav) // settings["hop_length"] + 1


def test_prepare_is_the_published_recipe(speech, mel_settings):
    b, a = signal.butter(5, 30 / 8000, "highpass")
    expected = 0.96 * signal.filtfilt(b, a, voice_activity.level(speech, 16_000, -24))
    wav = MelSpectrogram(**mel_settings).prepare(speech, 16_000)
    np.testing.assert_allclose(wav, expected, atol=1e-5)


def test_mels_are_independent_of_level_and_rate(speech, mel_settings):
    mel = MelSpectrogram(**mel_settings)
    reference = mel.extract(speech, 16_000)
    np.testing.assert_allclose(mel.extract(0.1 * speech, 16_000), reference, atol=1e-3)
    other_rate = mel.extract(io.resample(speech, 16_000, 48_000), 48_000)
    assert np.abs(other_rate - reference).mean() < 0.005


def test_amplitude_undoes_the_logarithm_and_the_gain(speech, mel_settings):
    mel = MelSpectrogram(**mel_settings)
    wav = torch.from_numpy(voice_activity.level(speech, 16_000, -24))
    spectrum = torch.stft(wav, 1024, 256, window=torch.hann_window(1024), return_complex=True)
    expected = mel.filters @ spectrum.abs()
    audible = (expected > 1e-3) & (expected < 1)
    amplitude = mel.amplitude(mel(mel_settings["gain"] * wav))
    torch.testing.assert_close(amplitude[audible], expected[audible], rtol=1e-3, atol=0)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_vtlp_filters_scale_frequencies(mel_settings, factor):
    mel = MelSpectrogram(**mel_settings)
    power_mel = PowerMel()
    seconds = torch.arange(16_000) / 16_000
    for frequency in (300.0, 1000.0, 3000.0):
        tone = 0.1 * torch.sin(2 * torch.pi * frequency * seconds)
        wanted = 0.1 * torch.sin(2 * torch.pi * factor * frequency * seconds)
        for transform in (mel, power_mel):
            heard = transform(tone, transform.vtlp_filters(factor))[:, 20]
            assert abs(heard.argmax() - transform(wanted)[:, 20].argmax()) <= 1
    # The level stays, and bands above what was recorded are not empty.
    noise = torch.randn(160_000, generator=torch.Generator().manual_seed(0))
    change = mel.amplitude(mel(0.01 * noise, mel.vtlp_filters(factor))).mean(dim=1) / mel.amplitude(
        mel(0.01 * noise)
    ).mean(dim=1)
    assert 0.8 < change.min() < change.max() < 1.25
    assert torch.equal(mel.vtlp_filters(1.0), mel.filters)


@pytest.mark.parametrize("frames_at_once", [1, 7, 4096])
def test_spectra_in_blocks_are_seamless(mel_settings, speech, monkeypatch, frames_at_once):
    monkeypatch.setattr("vc_lightning.audio.mel_filters.FRAMES_AT_ONCE", frames_at_once)
    wav = torch.from_numpy(speech[:20_011])
    for n_fft, hop, pad_mode in ((1024, 256, "reflect"), (400, 160, "constant")):
        window = torch.hann_window(n_fft)
        blocks = list(power_spectra(wav, n_fft, hop, window, pad_mode))
        expected = torch.stft(
            wav, n_fft, hop, window=window, pad_mode=pad_mode, return_complex=True
        )
        assert max(block.shape[1] for block in blocks) <= frames_at_once
        torch.testing.assert_close(torch.cat(blocks, dim=1).sqrt(), expected.abs())
    both = torch.stack([wav, 0.5 * wav])
    for mel in (MelSpectrogram(**mel_settings), PowerMel()):
        torch.testing.assert_close(mel(both), torch.stack([mel(wav), mel(0.5 * wav)]))


def test_several_filterbanks_share_one_transform(mel_settings, speech):
    wav = torch.from_numpy(speech)
    for mel in (MelSpectrogram(**mel_settings), PowerMel()):
        banks = [mel.vtlp_filters(factor) for factor in (0.8, 1.0, 1.25)]
        expected = torch.stack([mel(wav, bank) for bank in banks])
        torch.testing.assert_close(mel(wav, torch.stack(banks)), expected)


def test_refuses_impossible_settings(mel_settings):
    with pytest.raises(InputError, match="too short"):
        MelSpectrogram(**mel_settings).extract(np.ones(100, "f4"), 16_000)
    with pytest.raises(InputError, match="hop_length=0"):
        MelSpectrogram(**mel_settings | {"hop_length": 0})
    with pytest.raises(InputError, match="win_length=2048"):
        MelSpectrogram(**mel_settings | {"win_length": 2048})
    for impossible in (
        {"hop_length": 1025},
        {"n_mels": 514},
        {"n_fft": 2**17},
        {"sample_rate": 2**31},
    ):
        with pytest.raises(InputError, match=f"mel.{next(iter(impossible))}="):
            MelSpectrogram(**mel_settings | impossible)


def test_differing_settings_are_named(mel_settings):
    require_same_settings(mel_settings, dict(mel_settings), "a", "b")
    with pytest.raises(
        InputError, match=r"of a and b differ \(fmax 7600 != 8000, ref_db 16 != 0\)"
    ):
        require_same_settings(mel_settings, mel_settings | {"fmax": 8000, "ref_db": 0}, "a", "b")


def test_power_mel_equals_librosa(speech):
    expected = librosa.feature.melspectrogram(
        y=speech, sr=16_000, n_fft=400, hop_length=160, n_mels=40
    )
    mel = PowerMel()(torch.from_numpy(speech)).numpy()
    np.testing.assert_allclose(mel, expected, rtol=1e-3, atol=1e-5)


def test_power_mel_refuses_too_little_speech(speech):
    with pytest.raises(InputError, match="too short for the speaker encoder"):
        PowerMel().prepare(speech[30_000:36_000], 16_000)
    with pytest.raises(InputError, match="no speech"):
        PowerMel().prepare(np.full(16_000, 1e-3, "f4"), 16_000)


def test_estimated_spectrum_has_same_mel(mel_settings, speech, monkeypatch):
    mel = MelSpectrogram(**mel_settings)
    wanted = torch.from_numpy(mel.extract(speech, 16_000))
    spectrum = mel.spectrum(wanted)
    assert spectrum.shape == (513, wanted.shape[1])
    again = mel.logarithm(mel.filters @ (mel_settings["gain"] * mel.amplitude(spectrum)))
    assert (again - wanted).abs().mean() < 0.005  # half a dB
    assert spectrum[:5].max() < -0.1  # the filters begin at 90 Hz
    # After one round every bin is the mean of its bands, weighted by how well they hear it.
    monkeypatch.setattr("vc_lightning.audio.mel.DECONVOLUTION_ROUNDS", 1)
    bands = mel.amplitude(wanted[:, 50]) * mel_settings["gain"] / mel.filters.sum(dim=1)
    expected = (mel.filters[:, 100] * bands).sum() / mel.filters[:, 100].sum()
    torch.testing.assert_close(mel.spectrum(wanted)[100, 50], mel.logarithm(expected))


def test_training_can_use_filters_that_a_conversion_made():
    """Filters are made once; those of an inference mode could not be saved for a backward pass."""
    with torch.inference_mode():
        filters = mel_filters(16_000, 400, 80, 0, 8_000, 1.0625)
    assert mel_filters(16_000, 400, 80, 0, 8_000, 1.0625) is filters
    power = torch.rand(201, 3, requires_grad=True)
    (filters @ power).sum().backward()
    torch.testing.assert_close(power.grad, filters.sum(dim=0)[:, None].expand(-1, 3))
