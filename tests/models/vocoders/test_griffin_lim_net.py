from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from helpers import SOURCE, TARGET
from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.models import checkpoints
from vc_lightning.models.vocoders.griffin_lim.network import GriffinLimNet, log_spectral_distance


@pytest.fixture(scope="module")
def shipped():
    return checkpoints.load_griffin_lim()


def true_spectrum(wav, settings):
    stft = torch.stft(wav, 1024, 256, window=torch.hann_window(1024), return_complex=True)
    decibels = 20 * torch.log10(stft.abs().clamp(min=1e-5))
    return (decibels - settings["ref_db"] + 100) / 100


@torch.no_grad()
def test_output_is_rough_spectrum_plus_correction(shipped):
    mel, rough = torch.rand(2, 80, 9), torch.rand(2, 513, 9)
    weights = shipped.state_dict()
    hidden = F.conv1d(mel, weights["input.weight"], weights["input.bias"], padding=1)
    for i in range(3):
        weight, bias = weights[f"blocks.{i}.weight"], weights[f"blocks.{i}.bias"]
        hidden = hidden + F.conv1d(F.gelu(hidden), weight, bias, padding=1)
    matrix = weights["output.weight"][..., 0]
    expected = rough + matrix @ F.gelu(hidden) + weights["output.bias"][:, None]
    torch.testing.assert_close(shipped(mel, rough), expected, atol=1e-5, rtol=1e-4)


def test_untrained_network_is_identity():
    rough = torch.rand(1, 33, 1)
    assert torch.equal(GriffinLimNet(8, 33, dim=4, n_blocks=2)(torch.rand(1, 8, 1), rough), rough)


def test_distance_is_in_decibels():
    reference = torch.tensor([[0.9, 0.5], [0.8, 0.1]])  # (2 bins, 2 frames); silence below 0.3
    assert log_spectral_distance(reference, reference) == 0
    spectrum = torch.tensor([[0.93, 0.5], [0.84, 0.2]])
    expected = ((3**2 + 4**2) / 2) ** 0.5 / 2
    assert float(log_spectral_distance(spectrum, reference)) == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("path", [SOURCE, TARGET])
def test_shipped_network_beats_pseudo_inverse(shipped, mel_settings, path):
    mel = MelSpectrogram(**mel_settings)
    wav = torch.from_numpy(mel.prepare(*io.load(path)))
    log_mel = mel(wav)
    target = true_spectrum(wav, mel_settings)
    amplitude = mel_settings["gain"] * mel.amplitude(log_mel)
    inverse = mel.logarithm((torch.linalg.pinv(mel.filters) @ amplitude).clamp(min=0))
    learned = shipped(log_mel[None], mel.spectrum(log_mel)[None])[0]
    distances = [
        log_spectral_distance(s, target) for s in (inverse, mel.spectrum(log_mel), learned)
    ]
    assert distances[2] < distances[1] - 0.1
    assert distances[1] < distances[0]
    assert distances[2] < distances[0] - 0.5


def test_shipped_file(shipped, mel_settings):
    assert resources.weights("griffin_lim").stat().st_size < 2 * 2**20
    assert shipped.mel_settings == mel_settings
    assert not shipped.training


def test_refuses_mismatched_files(tmp_path):
    state, card = checkpoints.read(resources.weights("griffin_lim"), "griffin_lim")
    path = tmp_path / "a.safetensors"
    for mel in ({"n_mels": 40}, {"n_fft": 2048}, {"n_fft": "1024"}):
        checkpoints.save(path, state, replace(card, mel=card.mel | mel))
        with pytest.raises(InputError, match=r"its header says n_(mels|bins) .* for the mels"):
            checkpoints.load_griffin_lim(path)
    checkpoints.save(path, state, replace(card, network=card.network | {"dim": 10**9}))
    with pytest.raises(InputError, match="its header says dim 1000000000, its weights say 256"):
        checkpoints.load_griffin_lim(path)
    checkpoints.save(path, {k: v for k, v in state.items() if k != "input.weight"}, card)
    with pytest.raises(InputError, match="not a whole GriffinLimNet"):
        checkpoints.load_griffin_lim(path)
    path.write_bytes(resources.weights("griffin_lim").read_bytes()[:-100])
    with pytest.raises(InputError, match="cannot be read"):
        checkpoints.load_griffin_lim(path)
    with pytest.raises(InputError, match="holds ge2e weights; griffin_lim are needed"):
        checkpoints.load_griffin_lim(resources.SPEAKER_ENCODER)
