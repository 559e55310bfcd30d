"""The speaker probe on codes of known speakers."""

import numpy as np

from vc_lightning.evaluation.scorers.codes import speaker_probe


def codes(means, n_each, seed=0):
    """Make codes (8, 6) around the mean of each speaker, and list their speakers."""
    rng = np.random.default_rng(seed)
    names = [f"s{index}" for index in range(len(means)) for _ in range(n_each)]
    means = np.repeat(means, n_each)
    return [mean + rng.standard_normal((8, 6)) for mean in means], names


def test_probe_separates_speakers():
    probe = speaker_probe(*codes([0, 3, 6, 9], 4))
    accuracy, chance = probe.accuracy, probe.chance
    assert accuracy.mean > 0.95
    assert (accuracy.n, chance) == (16, 0.25)


def test_probe_is_at_chance_on_noise():
    probe = speaker_probe(*codes([0, 0, 0, 0], 20))
    accuracy, chance = probe.accuracy, probe.chance
    assert accuracy.low < chance < accuracy.high


def test_probe_ignores_utterance_offsets():
    """Codes that identify utterances, but not speakers, must not count as leakage."""
    rng = np.random.default_rng(0)
    utterances = [
        10 * rng.standard_normal((8, 1)) + rng.standard_normal((8, 20)) for _ in range(40)
    ]
    accuracy = speaker_probe(utterances, ["a", "b"] * 20).accuracy
    assert accuracy.mean < 0.75
