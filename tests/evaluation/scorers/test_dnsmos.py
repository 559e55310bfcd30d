"""DNSMOS, whose models are in a wheel."""

import numpy as np
import pytest

from vc_lightning.evaluation.scorers.dnsmos import DNSMOSListener


@pytest.fixture(scope="module")
def listener():
    return DNSMOSListener()


def test_noise_and_loud_speech(listener, speech):
    noise = np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32)
    clean = listener.naturalness(speech, 16_000)
    noisy = listener.naturalness(speech + 0.05 * noise, 16_000)
    assert 1 < listener.naturalness(noise, 16_000) < noisy < clean - 0.3 < 5


def test_silence(listener, speech):
    silence = np.zeros(80_000, dtype=np.float32)
    assert 1 < listener.naturalness(silence, 16_000) < listener.naturalness(speech, 16_000)


def test_other_rates(listener, speech):
    slow = listener.naturalness(speech, 16_000)
    assert listener.naturalness(speech.repeat(2), 32_000) == pytest.approx(slow, abs=0.3)
