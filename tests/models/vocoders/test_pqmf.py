import math

import pytest
import torch

from helpers import joined
from vc_lightning.models.vocoders.wavernn.pqmf import PQMF


def decibels(signal, error):
    return 10 * math.log10(signal.square().mean() / error.square().mean())


@pytest.mark.parametrize("bands", [2, 4, 5, 8])
def test_reconstruction_without_delay(bands, speech):
    filterbank = PQMF(bands)
    wav = torch.from_numpy(speech[: 8_000 * bands])[None]
    in_bands = filterbank.analyse(wav)
    assert in_bands.shape == (1, 8_000, bands)
    again = joined(filterbank, in_bands)
    assert again.shape == wav.shape
    inner = slice(filterbank.reach, -filterbank.reach)
    assert decibels(wav[:, inner], (wav - again)[:, inner]) > 58


@pytest.mark.parametrize("band", [0, 1, 2, 3])
def test_tone_stays_in_its_band(band):
    frequency = (band + 0.5) * 2_000  # the middle of a band at 16 kHz
    tone = torch.sin(2 * math.pi * frequency / 16_000 * torch.arange(16_000))[None]
    power = PQMF(4).analyse(tone)[0, 100:-100].square().mean(dim=0)
    others = torch.cat([power[:band], power[band + 1 :]])
    assert 10 * math.log10(power[band] / others.max()) > 60


def test_bands_depend_on_reach_only():
    filterbank = PQMF(4)
    wav = torch.randn(1, 400)
    changed = wav.clone()
    changed[:, 200:] = 0
    first = (200 - filterbank.reach) // 4
    before, after = filterbank.analyse(wav), filterbank.analyse(changed)
    assert torch.equal(before[:, :first], after[:, :first])
    assert not torch.equal(before[:, first + 1], after[:, first + 1])
