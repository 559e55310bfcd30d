"""Conversions and scores under worse recording conditions."""

import numpy as np
import pytest

from vc_lightning.audio import io as audio
from vc_lightning.audio import voice_activity
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.recording import Recording
from vc_lightning.evaluation import robustness
from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.robustness import CLEAN, CONDITIONS
from vc_lightning.evaluation.scores import Rate, ScoredConversion, Scores, Sounds


def test_levels(speech):
    quieter, louder, clipped = (list(CONDITIONS.values())[i](speech, 16_000) for i in range(3))
    assert voice_activity.rms_dbfs(quieter) == pytest.approx(
        voice_activity.rms_dbfs(speech) - 20, abs=1e-3
    )
    assert voice_activity.rms_dbfs(louder) == pytest.approx(
        voice_activity.rms_dbfs(speech) + 12, abs=1e-3
    )
    assert np.abs(louder).max() == pytest.approx(np.abs(speech).max() * 10**0.6, rel=1e-5)
    quarter = np.abs(speech) > np.abs(speech).max() * 10**-0.6
    assert 10 < quarter.sum() == (np.abs(clipped) == 1).sum()
    below = ~quarter
    assert np.corrcoef(clipped[below], speech[below])[0, 1] == pytest.approx(1, abs=1e-4)


def test_offset_and_hum(speech):
    peak = np.abs(speech).max()
    assert robustness.offset(speech, 16_000) - speech == pytest.approx(peak / 4, abs=1e-6)
    hum = robustness.humming(speech, 16_000) - speech
    assert voice_activity.rms_dbfs(hum) == pytest.approx(
        voice_activity.rms_dbfs(speech) - 20, abs=0.01
    )
    spectrum = np.abs(np.fft.rfft(hum[:16_000]))  # one bin a Hz
    assert set(np.argsort(spectrum)[-3:]) == {50, 100, 150}
    assert spectrum[100] / spectrum[50] == pytest.approx(0.5, abs=0.01)


def test_reverberation_time():
    click = np.zeros(16_000, dtype=np.float32)
    click[0] = 1
    wav = robustness.reverberant(click, 16_000)
    assert wav[0] == pytest.approx(1, abs=1e-5)
    assert np.abs(wav[1:80]).max() < 1e-5  # 5 ms before the first echo
    assert np.square(wav[1:]).sum() == pytest.approx(1, abs=1e-3)  # as strong as the click
    early, late = (
        voice_activity.rms_dbfs(wav[at : at + 1_600]) for at in (800, 5_600)
    )  # 0.3 s apart
    assert early - late == pytest.approx(36, abs=1)
    assert np.abs(wav[8_000:]).max() < 1e-5


def test_telephone_is_band_limited():
    noise = np.random.default_rng(0).standard_normal(32_001).astype(np.float32)
    wav = robustness.telephone(noise, 16_000)
    spectrum = np.abs(np.fft.rfft(wav)) ** 2
    frequencies = np.fft.rfftfreq(len(wav), 1 / 16_000)
    assert len(wav) == len(noise)
    assert spectrum[frequencies > 4_100].sum() < 1e-4 * spectrum[frequencies < 3_500].sum()


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 22_050, 44_100])
def test_mp3_bit_rate(speech, sample_rate):
    wav = audio.resample(speech, 16_000, sample_rate)
    bits = 8 * len(robustness.mp3_bytes(wav, sample_rate))
    assert bits / (len(wav) / sample_rate) == pytest.approx(64_000, rel=0.06)  # head and tail


def test_mp3_resembles_source(speech):
    decoded = robustness.mp3(speech, 16_000)
    assert decoded.shape == speech.shape
    assert 0.95 < np.corrcoef(decoded, speech)[0, 1] < 0.999999


def conversion(tmp_path, name="man", domain=None):
    path = tmp_path / f"{name}.wav"
    pair = Pair(path, (path,), path, path, name, "woman", groups={"domain": domain})
    return ScoredConversion(pair, Sounds(*[np.ones(100, dtype=np.float32)] * 2))


def test_sources_spread_over_domains(tmp_path):
    listed = [conversion(tmp_path, domain=name).pair for name in "aaaaabb"]
    assert robustness.chosen(listed, 3, "domain") == [0, 2, 4, 5, 6]
    assert robustness.chosen(listed, 1, "domain") == [0, 5]
    assert robustness.chosen(listed, 3, "speakers") == [0, 3, 6]
    assert robustness.chosen(listed, 0, "domain") == []


class Analyzer:
    """Refuses quiet sources."""

    sample_rate = 16_000

    def analyze(self, wav):
        if np.abs(wav).max() < 0.5:
            raise InputError("too quiet")
        level = voice_activity.Level(0.0, np.ones(1, dtype=bool))
        return Recording(wav, level, np.ones(4), np.zeros(1), 1.0, [], np.zeros((0, 80)))


def unchanged(pair, source):
    """Stand in for a converter that returns the source."""
    return ScoredConversion(
        pair, Sounds(source.wav, source.wav), Scores({"ge2e/to_target": float(source.wav.max())})
    )


def test_counts_refused_sources(tmp_path):
    clean = {1: conversion(tmp_path, "boy")}
    conditions = robustness.convert(Analyzer(), clean, unchanged)
    assert [results.condition for results in conditions] == [CLEAN, *CONDITIONS]
    assert conditions[0].conversions == clean
    by_name = {results.condition: results for results in conditions}
    quiet = by_name["20 dB quieter"]
    assert (quiet.conversions, quiet.refused) == ({}, [f"{tmp_path / 'boy.wav'}: too quiet"])
    louder = by_name["12 dB louder, not clipped"].conversions[1]
    assert louder.pair == clean[1].pair
    assert louder.sounds.conversion == pytest.approx(10**0.6)
    assert louder.scores["ge2e/to_target"] == pytest.approx(10**0.6)
    text = list(robustness.lines(conditions))
    assert f"- refused: {tmp_path / 'boy.wav'}: too quiet" in text
    assert any(line.startswith("| 20 dB quieter | 0 of 1 |") for line in text)


def test_missing_mp3_encoder_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("soundfile.available_formats", lambda: {"WAV": ""})
    conditions = robustness.convert(Analyzer(), {0: conversion(tmp_path)}, unchanged)
    assert robustness.unavailable() == [
        "robustness, mp3 at 64 kbit/s: this libsndfile writes no MP3"
    ]
    assert "mp3 at 64 kbit/s" not in {results.condition for results in conditions}


class ConstantScorer:
    """Transcribes everything as "abcd"; the peak is the naturalness."""

    def transcript(self, wav, sample_rate, language):
        return "abcd"

    def naturalness(self, wav, sample_rate):
        return float(wav.max())


def test_word_errors_against_clean_source(tmp_path):
    clean = conversion(tmp_path)
    clean.scores["words/character_errors"] = Rate(1, 4)
    clean.transcripts = {"words/source": "abxy", "words/conversion": "abx"}
    conditions = robustness.convert(Analyzer(), {0: clean}, unchanged)
    for results in conditions[1:]:
        for found in results.conversions.values():
            found.scores["ge2e/speech"] = float("mp3" not in results.condition)
    robustness.score_words(ConstantScorer(), conditions, 16_000)
    robustness.score_naturalness("distillmos", ConstantScorer(), conditions, 16_000)
    means = {t["condition"]: t["figures"] for t in robustness.to_json(conditions)}
    assert means[CLEAN]["words/character_errors"]["mean"] == 0.25
    assert "distillmos/conversion" not in means[CLEAN]
    offset = means["DC offset of a quarter of the peak"]
    assert offset["words/character_errors"]["mean"] == 0.5
    assert offset["distillmos/conversion"]["mean"] == pytest.approx(1.25)
    assert means["mp3 at 64 kbit/s"]["words/character_errors"]["mean"] == 1  # no speech in it


def test_no_error_rate_without_words(tmp_path):
    conditions = robustness.convert(Analyzer(), {0: conversion(tmp_path)}, unchanged)
    robustness.score_words(ConstantScorer(), conditions, 16_000)
    for results in robustness.to_json(conditions):
        assert "words/character_errors" not in results["figures"]
