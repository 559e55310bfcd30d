import pytest
import torch

from vc_lightning.models.vocoders.griffin_lim.phase_gradient import propagated


def stft(wav, win_length):
    window = torch.hann_window(win_length)
    return torch.stft(wav, 1024, 256, win_length, window, pad_mode="constant", return_complex=True)


@pytest.mark.parametrize("win_length", [1024, 800])
def test_continues_tones_and_chirp(win_length):
    """Given the first phases, the spectrum is found again but for a small part."""
    time = torch.arange(16_000) / 16_000
    wav = torch.sin(2 * torch.pi * (440 * time + 300 * time**2)) + torch.sin(13_000 * time)
    spectrum = stft(wav[None], win_length)[..., 4:-4]
    angles = propagated(spectrum.abs(), 1024, 256, win_length, spectrum[..., 0].angle())
    found = torch.polar(spectrum.abs(), angles)
    assert (found - spectrum)[..., :10].norm() < 0.35 * spectrum[..., :10].norm()


def test_batches_and_silence():
    magnitude = torch.rand(2, 513, 7)
    magnitude[1, :, 3] = 0
    start = torch.rand(2, 513)
    angles = propagated(magnitude, 1024, 256, 1024, start)
    assert torch.isfinite(angles).all()
    alone = propagated(magnitude[1:], 1024, 256, 1024, start[1:])
    torch.testing.assert_close(angles[1:], alone)
    # The bins of the first frame's peaks keep their phases; those between are locked to them.
    frame = magnitude[0, :, 0]
    peak = 1 + int(((frame[1:-1] > frame[:-2]) & (frame[1:-1] > frame[2:])).nonzero()[0])
    torch.testing.assert_close(angles[0, peak, 0], start[0, peak])
