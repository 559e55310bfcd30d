"""The mark in the sound: found after copies, cuts and other rates, and not in other recordings."""

import numpy as np
import pytest
import soundfile
import soxr

from helpers import SOURCE, TARGET
from vc_lightning.audio import watermark
from vc_lightning.audio.files import io

RATE = 16_000


@pytest.fixture(scope="module")
def speech():
    wav, rate = soundfile.read(SOURCE, dtype="float32")
    assert rate == RATE
    return wav


@pytest.fixture(scope="module")
def marked(speech):
    return watermark.embed(speech, RATE)


def test_mark_is_found_and_other_recordings_have_none(speech, marked):
    assert marked.dtype == np.float32
    assert len(marked) == len(speech)
    assert watermark.detect(marked, RATE).score > 8
    other, rate = soundfile.read(TARGET, dtype="float32")
    for wav in (speech, other[: 3 * rate], other):
        assert not watermark.detect(wav, RATE).found


def test_mark_survives_mp3_and_a_cut(marked, tmp_path):
    path = tmp_path / "marked.mp3"
    io.save(path, marked, RATE)
    wav, rate = io.load(path)
    assert watermark.detect(wav[2 * rate + 77 :], rate).found


def test_mark_of_another_rate(speech):
    wav = soxr.resample(speech, RATE, 22_050)
    assert watermark.detect(watermark.embed(wav, 22_050), 22_050).found


def test_mark_is_quiet(speech, marked):
    change = np.mean((marked - speech) ** 2) / np.mean(speech**2)
    assert -24 < 10 * np.log10(change) < -18


def test_tiles_are_louder_or_softer(monkeypatch):
    """With a pattern of one sign, everything in the marked bands becomes louder."""
    monkeypatch.setattr(watermark, "_pattern", lambda _: np.ones((42, 16)))
    seconds = np.arange(RATE) / RATE
    inside, outside = (np.sin(2 * np.pi * hz * seconds).astype(np.float32) for hz in (1000, 6000))
    middle = slice(RATE // 4, -RATE // 4)
    for wav, decibels in ((inside, watermark.DECIBELS), (outside, 0)):
        power = np.mean(watermark.embed(wav, RATE)[middle] ** 2) / np.mean(wav[middle] ** 2)
        assert 10 * np.log10(power) == pytest.approx(decibels, abs=0.01)


def test_blocks_do_not_change_the_mark(speech, marked, monkeypatch):
    monkeypatch.setattr(watermark, "BLOCK_FRAMES", 50)
    np.testing.assert_allclose(watermark.embed(speech, RATE), marked, atol=1e-6)
    assert watermark.detect(marked, RATE).found


@pytest.mark.parametrize("wav", [np.zeros(RATE), np.zeros(1), np.ones(100)])
def test_hardly_any_sound(wav):
    assert not watermark.detect(wav.astype(np.float32), RATE).found
    assert len(watermark.embed(wav.astype(np.float32), RATE)) == len(wav)
