"""Mel-cepstral distortion with known values."""

import numpy as np
import pytest

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.evaluation.scorers.distortion import mel_cepstral_distortion


def test_distortion_ignores_level_and_tempo(mel_settings, speech):
    mel = MelSpectrogram(**mel_settings).extract(speech, 16_000)
    assert mel_cepstral_distortion(mel, mel) == 0
    assert mel_cepstral_distortion(mel, mel + 0.1) == pytest.approx(0, abs=1e-4)
    assert mel_cepstral_distortion(mel, mel.repeat(2, axis=1)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("quefrency", "factor"), [(1, 1), (24, 1), (25, 0)])
def test_distortion_of_known_ripple(quefrency, factor):
    """c_m = 0.5 is a distortion of 10/ln 10 · √(2 · 0.5²) dB; 1 of ln|H| is 20/ln 10 dB of mel."""
    bands = (np.arange(80) + 0.5) / 80
    ripple = 0.5 * np.cos(np.pi * quefrency * bands) * 20 / np.log(10) / 100
    mel = np.full((80, 12), 0.5)
    expected = factor * 10 / np.log(10) * np.sqrt(2) * 0.5
    found = mel_cepstral_distortion(mel, mel + ripple[:, None])
    assert found == pytest.approx(expected, abs=1e-9)
