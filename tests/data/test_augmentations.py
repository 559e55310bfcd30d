import numpy as np
import pytest
import torch

from vc_lightning.common.errors import InputError
from vc_lightning.data.augmentations import Equalize, Gain, Mask


@pytest.fixture
def mel():
    """A constant mel, except for digital silence in the last ten frames."""
    mel = torch.full((80, 100), 0.5)
    mel[:, 90:] = 0
    return mel


def rng(seed=0):
    return np.random.default_rng(seed)


def test_gain(mel):
    shifts = [(Gain(6)(mel, rng(seed)) - mel)[:, :90] for seed in range(50)]
    assert all(torch.allclose(shift, shift[0, 0].expand_as(shift)) for shift in shifts)
    values = torch.stack([shift[0, 0] for shift in shifts])
    assert values.abs().max() <= 0.06
    assert values.max() > 0.04
    assert values.min() < -0.04
    assert Gain(6)(mel, rng())[:, 90:].abs().max() == 0


def test_equalize(mel):
    curve = Equalize(6, 5)(mel, rng()) - mel
    assert torch.allclose(curve[:, :90], curve[:, :1].expand(-1, 90))
    assert curve.abs().max() <= 0.06
    assert curve[:, 0].std() > 0.005
    assert curve[:, 0].diff().abs().max() < 0.12 / (80 / 5) * 1.5
    assert curve[:, 90:].abs().max() == 0


def test_mask(mel):
    whole = torch.full((80, 100), 0.5)
    sizes = set()
    for seed in range(50):
        silent = Mask(10, 8)(whole, rng(seed)) == 0
        frames, bands = silent.all(dim=0).sum().item(), silent.all(dim=1).sum().item()
        assert silent.sum() == frames * 80 + bands * 100 - frames * bands
        sizes.add((frames, bands))
    assert max(size[0] for size in sizes) == 10
    assert max(size[1] for size in sizes) == 8
    assert whole.min() == 0.5  # the argument is not changed


def test_mask_longer_than_crop():
    assert Mask(500, 500)(torch.ones(80, 3), rng(1)).shape == (80, 3)


@pytest.mark.parametrize("make", [lambda: Gain(-1), lambda: Equalize(3, 1), lambda: Mask(-1, 0)])
def test_refuses_impossible_values(make):
    with pytest.raises(InputError, match=r"data\.augmentations"):
        make()
