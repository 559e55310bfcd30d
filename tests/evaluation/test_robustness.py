"""What is done to sources, and what is counted of their conversions."""

import dataclasses

import numpy as np
import pytest

from vc_lightning.audio import io as audio
from vc_lightning.audio import voice_activity
from vc_lightning.common.errors import InputError
from vc_lightning.evaluation import robustness
from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.results import Outcome
from vc_lightning.evaluation.robustness import CLEAN, CONDITIONS


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


def test_an_offset_and_a_hum_are_added(speech):
    peak = np.abs(speech).max()
    assert robustness.offset(speech, 16_000) - speech == pytest.approx(peak / 4, abs=1e-6)
    hum = robustness.humming(speech, 16_000) - speech
    assert voice_activity.rms_dbfs(hum) == pytest.approx(
        voice_activity.rms_dbfs(speech) - 20, abs=0.01
    )
    spectrum = np.abs(np.fft.rfft(hum[:16_000]))  # one bin a Hz
    assert set(np.argsort(spectrum)[-3:]) == {50, 100, 150}
    assert spectrum[100] / spectrum[50] == pytest.approx(0.5, abs=0.01)


def test_a_room_decays_by_60_db_in_half_a_second():
    click = np.zeros(16_000, dtype=np.float32)
    click[0] = 1
    heard = robustness.reverberant(click, 16_000)
    assert heard[0] == pytest.approx(1, abs=1e-5)
    assert np.abs(heard[1:80]).max() < 1e-5  # 5 ms before the first echo
    assert np.square(heard[1:]).sum() == pytest.approx(1, abs=1e-3)  # as strong as the click
    early, late = (
        voice_activity.rms_dbfs(heard[at : at + 1_600]) for at in (800, 5_600)
    )  # 0.3 s apart
    assert early - late == pytest.approx(36, abs=1)
    assert np.abs(heard[8_000:]).max() < 1e-5


def test_a_telephone_has_nothing_above_4_khz():
    noise = np.random.default_rng(0).standard_normal(32_001).astype(np.float32)
    heard = robustness.telephone(noise, 16_000)
    spectrum = np.abs(np.fft.rfft(heard)) ** 2
    frequencies = np.fft.rfftfreq(len(heard), 1 / 16_000)
    assert len(heard) == len(noise)
    assert spectrum[frequencies > 4_100].sum() < 1e-4 * spectrum[frequencies < 3_500].sum()


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 22_050, 44_100])
def test_mp3_has_64_kbit_a_second_at_every_rate(speech, sample_rate):
    wav = audio.resample(speech, 16_000, sample_rate)
    bits = 8 * len(robustness.mp3_bytes(wav, sample_rate))
    assert bits / (len(wav) / sample_rate) == pytest.approx(64_000, rel=0.06)  # head and tail


def test_mp3_is_nearly_the_same_sound(speech):
    heard = robustness.mp3(speech, 16_000)
    assert heard.shape == speech.shape
    assert 0.95 < np.corrcoef(heard, speech)[0, 1] < 0.999999


def outcome(tmp_path, name="man", domain=None, wav=None):
    path = tmp_path / f"{name}.wav"
    pair = Pair(path, (path,), path, path, name, "woman", groups={"domain": domain})
    wav = np.ones(100, dtype=np.float32) if wav is None else wav
    return Outcome(pair, wav, wav, wav)


def test_every_domain_has_its_share(tmp_path):
    outcomes = [outcome(tmp_path, domain=name) for name in "aaaaabb"]
    assert robustness.chosen(outcomes, 3, "domain") == [0, 2, 4, 5, 6]
    assert robustness.chosen(outcomes, 1, "domain") == [0, 5]
    assert robustness.chosen(outcomes, 3, "speakers") == [0, 3, 6]


class Echo:
    """Converts into the source itself, but refuses what is quiet."""

    sample_rate = 16_000

    def convert_to(self, source, target, seed):
        assert (target, seed) == ("a voice", 7)
        if np.abs(source).max() < 0.5:
            raise InputError("too quiet")
        return source


def test_sources_that_are_refused_are_counted(tmp_path):
    clean = [outcome(tmp_path), outcome(tmp_path, "boy")]
    voices = {clean[1].pair.voice: "a voice"}
    trials, left_out = robustness.convert(Echo(), clean, [1], voices, 7)
    assert left_out == []
    assert [trial.condition for trial in trials] == [CLEAN, *CONDITIONS]
    assert trials[0].outcomes == [(1, clean[1])]
    by_name = {trial.condition: trial for trial in trials}
    quiet = by_name["20 dB quieter"]
    assert (quiet.outcomes, quiet.refused) == ([], [f"{tmp_path / 'boy.wav'}: too quiet"])
    ((place, louder),) = by_name["12 dB louder, not clipped"].outcomes
    assert (place, louder.pair) == (1, clean[1].pair)
    assert louder.wav == pytest.approx(10**0.6)
    text = list(robustness.lines(trials))
    assert f"- refused: {tmp_path / 'boy.wav'}: too quiet" in text
    assert any(line.startswith("| 20 dB quieter | 0 of 1 |") for line in text)


def test_without_an_mp3_encoder_that_condition_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("soundfile.available_formats", lambda: {"WAV": ""})
    clean = [outcome(tmp_path)]
    trials, left_out = robustness.convert(Echo(), clean, [0], {clean[0].pair.voice: "a voice"}, 7)
    assert left_out == ["robustness, mp3 at 64 kbit/s: this libsndfile writes no MP3"]
    assert "mp3 at 64 kbit/s" not in {trial.condition for trial in trials}


class Parrot:
    """Hears "abcd" in everything, and no naturalness but the peak."""

    def transcript(self, wav, sample_rate, language):
        return "abcd"

    def naturalness(self, wav, sample_rate):
        return float(wav.max())


def test_words_are_those_of_the_clean_source(tmp_path):
    clean = [outcome(tmp_path)]
    clean[0].note("words/character_errors", 0.25, 4)
    clean[0].words = {"source": "abxy", "conversion": "abx"}
    trials, _ = robustness.convert(Echo(), clean, [0], {clean[0].pair.voice: "a voice"}, 7)
    for trial in trials[1:]:
        for _, found in trial.outcomes:
            found.note("similarity/speech", float("mp3" not in trial.condition))
    robustness.judge_words(Parrot(), trials, 16_000)
    robustness.judge_naturalness(Parrot(), trials, 16_000)
    means = {t["condition"]: t["figures"] for t in robustness.to_json(trials)}
    assert means[CLEAN]["words/character_errors"]["mean"] == 0.25
    assert "naturalness/conversion" not in means[CLEAN]
    offset = means["DC offset of a quarter of the peak"]
    assert offset["words/character_errors"]["mean"] == 0.5
    assert offset["naturalness/conversion"]["mean"] == pytest.approx(1.25)
    assert means["mp3 at 64 kbit/s"]["words/character_errors"]["mean"] == 1  # no speech in it


def test_what_was_not_written_down_has_no_errors(tmp_path):
    clean = [dataclasses.replace(outcome(tmp_path))]
    trials, _ = robustness.convert(Echo(), clean, [0], {clean[0].pair.voice: "a voice"}, 7)
    robustness.judge_words(Parrot(), trials, 16_000)
    assert all(figures["figures"] == {} for figures in robustness.to_json(trials))
