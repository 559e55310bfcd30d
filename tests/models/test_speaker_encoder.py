import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vc_lightning.audio.files import io
from vc_lightning.common.errors import InputError
from vc_lightning.models.speaker_encoder import DVector, similarity

# What Resemblyzer 0.1.4 gives for the two examples: preprocess_wav, then embed_utterance.
PUBLISHED = json.loads(Path(__file__).with_name("resemblyzer_embeddings.json").read_text())


def test_equals_published_package(encoder, speech, other_speech):
    for name, wav in {"source": speech, "target": other_speech}.items():
        embedding = encoder.embed_utterance(wav)
        assert embedding.shape == (256,)
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)
        assert similarity(embedding, np.array(PUBLISHED[name])) > 0.9999


def test_embedding_is_independent_of_rate_and_level(encoder, speech):
    reference = encoder.embed_recording(speech, 16_000, -24)
    again = io.resample(speech, 16_000, 44_100)
    assert similarity(encoder.embed_recording(again, 44_100, -24), reference) > 0.999
    assert similarity(encoder.embed_recording(0.05 * speech, 16_000, -24), reference) > 0.99999
    assert similarity(encoder.embed_utterance(0.05 * speech), reference) < 0.99


def test_separates_speakers(encoder, speech, other_speech):
    halves = [encoder.embed_utterance(w) for w in (speech[:48_000], speech[48_000:])]
    other = encoder.embed_utterance(other_speech)
    assert similarity(*halves) > 0.75 > 0.65 > similarity(halves[0], other)


def test_average_is_mean_direction(encoder, speech, other_speech):
    wavs = [speech, other_speech]
    embeddings = [encoder.embed_utterance(w) for w in wavs]
    mean = np.mean(embeddings, axis=0)
    np.testing.assert_allclose(encoder.average(embeddings), mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize("n_samples", [8_000, 25_600, 37_000, 38_000, 60_000, 160_000])
def test_positions_of_partials(encoder, n_samples):
    """Frames of 10 ms, 160 a partial, one every 77; the last counts when 75 % of it is sound."""
    starts = encoder._partial_starts(n_samples)
    assert starts == [77 * i for i in range(len(starts))]
    sound = [min(160, n_samples / 160 - start) / 160 for start in starts]
    assert all(share >= 0.75 for share in sound[1:])
    following = n_samples / 160 - (starts[-1] + 77)
    assert following < 0.75 * 160


def test_long_recordings(encoder, speech, monkeypatch):
    reference = encoder.embed_utterance(speech)
    monkeypatch.setattr("vc_lightning.models.speaker_encoder.MAX_PARTIALS_AT_ONCE", 2)
    np.testing.assert_allclose(encoder.embed_utterance(speech), reference, atol=1e-5)


FACTORS = [1.0, 0.8, 1.25]


@pytest.mark.parametrize("at_once", [1, 5, 48])
def test_batch_equals_single(encoder, speech, other_speech, monkeypatch, at_once):
    speeches = [encoder.mel.prepare(w, 16_000) for w in (speech, other_speech, speech[:20_000])]
    alone = [[encoder.embed_speech(wav, factor) for factor in FACTORS] for wav in speeches]
    monkeypatch.setattr("vc_lightning.models.speaker_encoder.MAX_PARTIALS_AT_ONCE", at_once)
    batch = encoder.embed_batch(speeches, FACTORS)
    assert batch.shape == (3, 3, 256)
    assert batch.dtype == np.float32
    np.testing.assert_allclose(batch, alone, atol=1e-6)


def test_bf16_embeddings_agree(encoder, speech, other_speech):
    speeches = [encoder.mel.prepare(w, 16_000) for w in (speech, other_speech)]
    exact, rounded = (encoder.embed_batch(speeches, FACTORS, bf16=bf16) for bf16 in (False, True))
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rounded, axis=-1), 1, atol=1e-5)
    cosines = (exact * rounded).sum(axis=-1)
    assert 0.999 < cosines.min() < cosines.max() < 0.9999999  # not the same arithmetic


def test_refuses_too_little_speech(encoder, speech):
    with pytest.raises(InputError, match="speech"):
        encoder.embed_utterance(speech[:3_000])


def test_d_vector(speech):
    torch.manual_seed(0)
    encoder = DVector().eval()
    mel = torch.rand(2, 80, 128)
    hidden = encoder.lstm(mel.transpose(1, 2))[0][:, -1]
    expected = encoder.linear(hidden)
    expected = expected / expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(encoder(mel), expected)
    assert (encoder(mel) < 0).any()
    embedding = encoder.embed_utterance(speech)
    assert embedding.shape == (256,)
    assert np.linalg.norm(embedding) < 1  # a plain mean of unit vectors
