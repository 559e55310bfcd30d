import torch

from vc_lightning.audio.checks import acoustics


def speech(generator, floor=0.15, dull=0.0, smear=1):
    """Make a mel of loud, changing frames with pauses at the level of the floor."""
    loud = 0.55 + 0.1 * torch.rand(80, 300, generator=generator)
    loud = loud.unfold(1, smear, 1).mean(-1)
    loud -= torch.linspace(0, dull, 80)[:, None]
    loud[:, ::3] = floor
    return loud


def test_noise_raises_the_floors_only():
    g = torch.Generator().manual_seed(0)
    quiet = acoustics.describe(speech(g))
    noisy = acoustics.describe(speech(g, floor=0.35))
    assert (noisy - quiet)[:4].min() > 1.5
    assert (noisy - quiet)[4:7].abs().max() < 0.2


def test_dull_microphones_lower_the_treble():
    g = torch.Generator().manual_seed(0)
    bright, dull = acoustics.describe(speech(g)), acoustics.describe(speech(g, dull=0.3))
    treble = (dull - bright)[4:7]
    assert treble.max() < -1
    assert treble[2] < treble[0]


def test_smeared_speech_changes_less():
    g = torch.Generator().manual_seed(0)
    sharp = torch.rand(80, 300, generator=g)
    smeared = sharp.unfold(1, 4, 1).mean(-1)
    assert (acoustics.describe(sharp) - acoustics.describe(smeared))[7:].min() > 1


def test_one_frame_and_silence_are_described():
    assert acoustics.describe(torch.zeros(80, 1)).isfinite().all()
    assert acoustics.describe(torch.zeros(80, 50)).isfinite().all()


def test_clean_is_the_mean_of_the_cleanest_quarter():
    described = torch.zeros(8, acoustics.N_ACOUSTICS)
    described[3, 4:], described[6, :4] = 2.0, -3.0  # bright and sharp; without noise
    expected = described[[3, 6]].mean(dim=0)
    torch.testing.assert_close(acoustics.clean(described), expected)
