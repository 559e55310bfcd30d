"""Conversions and scores under worse recording conditions."""

from types import SimpleNamespace

import numpy as np
import pytest

from vc_lightning.audio import voice_activity
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.recording import Recording
from vc_lightning.conversion.voices.voice import Voice
from vc_lightning.evaluation import robustness
from vc_lightning.evaluation.conditions import SECOND_SPEAKERS, SOURCES, TARGETS
from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.robustness import CLEAN
from vc_lightning.evaluation.scorers import naturalness
from vc_lightning.evaluation.scores import Rate, ScoredConversion, Scores, Sounds


def conversion(tmp_path, name="man", domain=None):
    path = tmp_path / f"{name}.wav"
    pair = Pair(path, (path,), path, path, name, "woman", groups={"domain": domain})
    return ScoredConversion(pair, Sounds(*[np.ones(2_000, dtype=np.float32)] * 2))


def test_sources_spread_over_domains(tmp_path):
    listed = [conversion(tmp_path, domain=name).pair for name in "aaaaabb"]
    assert robustness.chosen(listed, 3) == [0, 2, 4, 5, 6]
    assert robustness.chosen(listed, 1) == [0, 5]
    assert robustness.chosen(listed, 0) == []


def analyzed(wav):
    level = voice_activity.Level(0.0, np.ones(1, dtype=bool))
    return Recording(wav, level, lambda: np.ones(4), np.zeros(1), 1.0, [], np.zeros((0, 80)))


class Analyzer:
    """Refuses quiet sources."""

    sample_rate = 16_000

    def analyze(self, wav):
        if np.abs(wav).max() < 0.5:
            raise InputError("too quiet")
        return analyzed(wav)

    def load(self, path):
        """Each recording of a voice has 2 s."""
        return np.ones(32_000, dtype=np.float32)

    def voice(self, wav):
        return Voice(np.array([len(wav) / 16_000]))


def unchanged(pair, source, voice):
    """Stand in for a converter that returns the source, or ones as long as the voice."""
    if voice is not None:
        wav = np.ones(round(voice.embedding[0]), dtype=np.float32)
        return ScoredConversion(pair, Sounds(source.wav, wav), Scores({"ge2e/to_target": 0.5}))
    return ScoredConversion(
        pair, Sounds(source.wav, source.wav), Scores({"ge2e/to_target": float(source.wav.max())})
    )


def converted(clean):
    sources = {c.pair.source: analyzed(c.sounds.source) for c in clean.values()}
    return robustness.convert(Analyzer(), clean, sources, unchanged)


def test_counts_refused_sources(tmp_path):
    clean = {1: conversion(tmp_path, "boy")}
    conditions = converted(clean)
    # One pair has no second speaker, and a voice of 2 s only one of the lengths.
    lengths = [name for name in TARGETS if "0 s" not in name and "3 s" not in name]
    assert [results.condition for results in conditions] == [CLEAN, *SOURCES, *lengths]
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
    conditions = converted({0: conversion(tmp_path)})
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
    conditions = converted({0: clean})
    for results in conditions[1:]:
        for found in results.conversions.values():
            found.scores["ge2e/speech"] = float("mp3" not in results.condition)
    robustness.score_words(ConstantScorer(), conditions, 16_000)
    mel = SimpleNamespace(sample_rate=16_000, leveled=lambda wav, _: wav)
    tested = [c for results in conditions[1:] for c in results.conversions.values()]
    naturalness.score("distillmos", ConstantScorer(), tested, mel)
    means = {t["condition"]: t["figures"] for t in robustness.to_json(conditions)}
    assert means[CLEAN]["words/character_errors"]["mean"] == 0.25
    assert "distillmos/conversion" not in means[CLEAN]
    offset = means["DC offset of a quarter of the peak"]
    assert offset["words/character_errors"]["mean"] == 0.5
    assert offset["distillmos/conversion"]["mean"] == pytest.approx(1.25)
    assert means["mp3 at 64 kbit/s"]["words/character_errors"]["mean"] == 1  # no speech in it


def test_no_error_rate_without_words(tmp_path):
    conditions = converted({0: conversion(tmp_path)})
    robustness.score_words(ConstantScorer(), conditions, 16_000)
    for results in robustness.to_json(conditions):
        assert "words/character_errors" not in results["figures"]


def test_second_speaker_and_length_of_the_voice(tmp_path):
    clean = {0: conversion(tmp_path, "boy"), 1: conversion(tmp_path, "girl")}
    found = {r.condition: r for r in converted(clean)}
    for (condition, level), peak in zip(SECOND_SPEAKERS.items(), (1, 10**-0.5), strict=True):
        assert level == pytest.approx(20 * np.log10(peak))
        mixed = found[condition].conversions
        assert mixed.keys() == {0, 1}
        assert mixed[0].sounds.conversion == pytest.approx(1 + peak)
    assert len(found["target of 1 s"].conversions[0].sounds.conversion) == 1
    assert "target of 3 s" not in found
