"""Phoneme errors, and hama on recordings."""

from pathlib import Path

import numpy as np

from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.scorers.recognisers import phonemes
from vc_lightning.evaluation.scorers.recognisers.texts import word_errors
from vc_lightning.evaluation.scores import Rate, ScoredConversion, Scores, Sounds


def test_hama_tells_good_from_bad(speech):
    recogniser = phonemes.Hama()
    clean = " ".join(recogniser.phonemes(speech, 16_000))
    assert len(clean.split()) > 20
    noise = np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32)
    noise *= np.sqrt(np.mean(speech**2))
    shares = [
        word_errors(clean, " ".join(recogniser.phonemes(speech + gain * noise, 16_000))).value
        for gain in (0.01, 0.1, 1)
    ]
    assert shares == sorted(shares)
    assert shares[0] < 0.1 < 0.3 < shares[2]


class Letters:
    def phonemes(self, wav, sample_rate):
        return list("abcdefgh"[: len(wav)])


def conversion(n_source, n_after, language="en", speech=1.0):
    path = Path(f"{n_source}.wav")
    pair = Pair(path, (path,), path, path, "a", "b", language=language)
    sounds = Sounds(np.zeros(n_source), np.zeros(n_after))
    return ScoredConversion(pair, sounds, Scores({"ge2e/speech": speech}))


def test_scores_english_only():
    listed = [conversion(8, 6), conversion(8, 8, speech=0.0), conversion(8, 8, "de")]
    left_out = phonemes.score(Letters(), [*listed, conversion(0, 3)], 16_000)
    assert [c.scores.get("phonemes/errors") for c in listed] == [Rate(2, 8), Rate(8, 8), None]
    assert listed[0].transcripts["phonemes/conversion"] == "a b c d e f"
    assert left_out == {
        "phonemes: understands English only": 1,
        "phonemes: none are heard in the source": 1,
    }
