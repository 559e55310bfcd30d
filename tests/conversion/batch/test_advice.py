"""Advice on recordings that convert badly."""

from pathlib import Path

import numpy as np
import pytest

from helpers import two_speakers
from vc_lightning.audio import voice_activity
from vc_lightning.conversion.batch import advice
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.voices.voice import VoiceSample


def of_recording(wav):
    """Advise on a recording whose speech is known from its analysis."""
    level = voice_activity.measure_level(wav, 16_000, -23.0)
    return advice.of_recording("a.wav", wav, 16_000, level.speech)


def test_good_recordings_need_no_advice(speech, other_speech):
    assert of_recording(speech) == of_recording(other_speech) == []


def test_noise_and_clipping_are_named_with_the_remedy(speech):
    noise = np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32)
    noisy = speech + 0.5 * noise * np.sqrt(np.mean(speech**2))
    (sentence,) = of_recording(noisy)
    assert sentence.startswith("a.wav: is noisy")
    assert "cleanup.denoise=true" in sentence
    (sentence,) = of_recording((8 * speech / np.abs(speech).max()).clip(-1, 1))
    assert "is clipped" in sentence


def sample(seconds, *embedding):
    unit = np.array(embedding) / np.linalg.norm(embedding)
    return VoiceSample(unit.astype(np.float32), np.zeros(1), np.ones(1, bool), seconds)


@pytest.mark.parametrize(
    ("samples", "sentences"),
    [
        ([sample(2, 1, 0)], ["0.wav: the target has 2.0 s only"]),
        ([sample(2, 1, 0), sample(2, 1, 0.1)], []),
        ([sample(5, 1, 0), sample(5, 0.9, 0.3), sample(5, 0, 1)], ["0.wav, 2.wav: sound like two"]),
    ],
)
def test_target_voices(samples, sentences):
    named = [(Path(f"{number}.wav"), one) for number, one in enumerate(samples)]
    found = advice.of_target(named)
    assert len(found) == len(sentences)
    assert all(one.startswith(start) for one, start in zip(found, sentences, strict=True))


def test_two_speakers_in_one_recording(tiny_checkpoint, speech, other_speech):
    converter = VoiceConverter.from_checkpoint(tiny_checkpoint)
    both = two_speakers(speech, other_speech)
    (sentence,) = advice.of_speakers("a.wav", both, converter)
    assert sentence.startswith("a.wav: begins and ends like two speakers (similarity 0.")
    nothing = np.zeros_like(speech)  # neither silence nor a second of speech is a speaker
    for wav in (speech, other_speech, speech[:60_000], np.concatenate([speech, nothing])):
        assert advice.of_speakers("a.wav", wav, converter) == []
