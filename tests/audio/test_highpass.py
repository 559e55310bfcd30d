import numpy as np
import pytest
from scipy import signal

from vc_lightning.audio.highpass import RunningHighpass, filter_zero_phase


@pytest.mark.parametrize(
    ("sample_rate", "cutoff_hz", "n_samples"),
    [(16_000, 30, 40_000), (22_050, 40, 8192), (16_000, 30, 19), (48_000, 7000, 3000)],
)
def test_values_are_those_of_scipy(sample_rate, cutoff_hz, n_samples):
    """Also at the ends, of an offset, over several blocks and in less than one."""
    wav = (np.random.default_rng(0).standard_normal(n_samples) + 0.3).astype(np.float32)
    sections = signal.butter(5, cutoff_hz, "highpass", output="sos", fs=sample_rate)
    expected = signal.sosfiltfilt(sections, wav)
    np.testing.assert_allclose(filter_zero_phase(wav, sample_rate, cutoff_hz), expected, atol=1e-11)


def test_running_filter_in_pieces_equals_whole():
    wav = np.random.default_rng(0).standard_normal(1000)
    running = RunningHighpass(16_000, 30)
    pieces = [running.push(piece) for piece in np.split(wav, [7, 400])]
    b, a = signal.butter(5, 30, "highpass", fs=16_000)
    np.testing.assert_allclose(np.concatenate(pieces), signal.lfilter(b, a, wav), atol=1e-6)
