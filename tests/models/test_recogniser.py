import numpy as np
import pytest
import torch
from torch.nn import functional as F

from vc_lightning.common.precision import HAS_BFLOAT16_LSTM, HAS_VNNI
from vc_lightning.models import eight_bits, onednn
from vc_lightning.models import recogniser as recogniser_module
from vc_lightning.models.checkpoints import load_recogniser
from vc_lightning.models.recogniser import Recogniser, attend, interpolate


def test_equals_ctranslate2(recogniser, speech, tmp_path):
    """The published model, run by its own engine, on the mel of its own package."""
    faster_whisper = pytest.importorskip("faster_whisper")
    feature_extractor = faster_whisper.feature_extractor.FeatureExtractor()
    mel = feature_extractor(speech, padding=0)
    assert np.abs(recogniser.mel(torch.from_numpy(speech)).numpy() - mel).max() < 1e-4
    # Hidden states of an independent implementation with the same weights.
    transformers = pytest.importorskip("transformers")
    config = transformers.WhisperConfig(
        d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048
    )
    theirs = transformers.models.whisper.modeling_whisper.WhisperEncoder(config).eval()
    theirs.load_state_dict(_their_names(recogniser.state_dict()))
    padded = F.pad(torch.from_numpy(mel), (0, 3000 - mel.shape[1]))[None]
    with torch.inference_mode():
        ours = recogniser(padded)[0]
        expected = theirs(padded).last_hidden_state[0]
    assert (ours - expected).abs().max() < 2e-3
    assert expected.abs().max() > 5


def test_onednn_hears_the_same(recogniser, speech, monkeypatch):
    heard = []
    for is_fast in (False, torch.backends.mkldnn.is_available()):
        monkeypatch.setattr(recogniser_module, "HAS_FAST_ONEDNN", is_fast)
        heard.append(recogniser.features(speech))
    np.testing.assert_allclose(*heard, atol=1e-3)


@pytest.mark.parametrize("n_frames", [50, 300])
def test_attention_in_bfloat16_is_that_in_float32(n_frames):
    torch.manual_seed(0)
    given = torch.randn(3, 2, 4, n_frames, 16, requires_grad=True)
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        attended = attend(*given.to(dtype)).float()
        gradient = torch.autograd.grad(attended.square().sum(), given)[0]
        results.append((attended, gradient))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masked_frames_are_not_attended_to(dtype):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 9, 16).to(dtype)
    mask = torch.zeros(2, 1, 1, 9, dtype=dtype)
    mask[1, ..., 6:] = -torch.inf
    found = attend(query, key, value, mask)
    for row, n_known in ((0, 9), (1, 6)):
        expected = attend(
            query[row : row + 1], key[row : row + 1, :, :n_known], value[row : row + 1, :, :n_known]
        )
        torch.testing.assert_close(found[row], expected[0], atol=0.02, rtol=0.02)
    assert not torch.allclose(found[1], attend(query, key, value)[1], atol=0.1)


def test_bfloat16_hears_the_same(recogniser, speech):
    features = recogniser.features(speech)
    other = load_recogniser()
    assert other.identity == recogniser.identity
    rounded = other.use_bfloat16().features(speech)
    assert other.identity == recogniser.identity
    assert rounded.dtype == np.float32
    difference = np.square(rounded - features).mean() ** 0.5
    assert 0.001 < difference / (features - features.mean(axis=0)).std() < 0.02


def test_8_bits_hear_nearly_the_same(recogniser, speech, monkeypatch):
    features = recogniser.features(speech)
    other = load_recogniser().use_8_bits()
    assert other.identity == recogniser.identity
    monkeypatch.setattr(eight_bits, "HAS_FAST_BYTES", False)
    np.testing.assert_array_equal(other.features(speech), features)
    if not HAS_VNNI:
        pytest.skip("this processor multiplies no bytes fast")
    monkeypatch.setattr(eight_bits, "HAS_FAST_BYTES", True)
    difference = np.square(other.features(speech) - features).mean() ** 0.5
    assert 0.01 < difference / (features - features.mean(axis=0)).std() < 0.12


@pytest.mark.parametrize("n_frames", [75, 1500])  # 38 and 750, rounded up to 40 and 768
def test_frames_that_are_appended_for_speed_are_not_heard(monkeypatch, n_frames):
    if not HAS_BFLOAT16_LSTM:
        pytest.skip("oneDNN does not compute in bfloat16 on this processor")
    torch.manual_seed(0)
    network = Recogniser(n_mels=20, dim=16, n_layers=2, n_heads=2)
    network.use_bfloat16().eval().requires_grad_(False)
    mel = torch.randn(2, 20, n_frames)
    made = []
    for has_matrix_units in (False, True):
        monkeypatch.setattr(onednn, "HAS_AMX", has_matrix_units)
        with torch.inference_mode():
            made.append(network(mel))
    torch.testing.assert_close(made[1], made[0], atol=0.03, rtol=0.03)


def _their_names(state):
    made = {}
    for name, value in state.items():
        if ".qkv." in name:
            layer = name.split(".qkv.")[0]
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                if (part, name[-4:]) != ("k", "bias"):
                    made[f"{layer}.self_attn.{part}_proj.{name.split('.')[-1]}"] = piece
                else:
                    assert not piece.any()  # the published keys have no bias
            continue
        for ours, theirs in {
            ".out.": ".self_attn.out_proj.",
            ".attention_norm.": ".self_attn_layer_norm.",
            ".ffn_norm.": ".final_layer_norm.",
            ".ffn1.": ".fc1.",
            ".ffn2.": ".fc2.",
        }.items():
            name = name.replace(ours, theirs)
        name = {"norm.weight": "layer_norm.weight", "norm.bias": "layer_norm.bias"}.get(name, name)
        made["embed_positions.weight" if name == "positions" else name] = value
    return made


def test_batches_give_the_same(recogniser, speech):
    mel = recogniser.mel(torch.from_numpy(speech))
    with torch.inference_mode():
        both = recogniser(torch.stack([mel, mel.flip(-1)]))
        torch.testing.assert_close(both[:1], recogniser(mel[None]), atol=2e-4, rtol=1e-4)


def test_long_recordings_are_cut(recogniser, speech):
    long = np.concatenate([speech] * 6)  # 36 s: two stretches of 18 s
    features = recogniser.features(long)
    assert len(features) == -(-len(long) // 320)
    half = -(-len(features) // 2)
    np.testing.assert_allclose(features[:half], recogniser.features(long[: half * 320]), atol=1e-3)


def test_vtlp_copies_differ_but_keep_the_words(recogniser, speech):
    features, copy = recogniser.features_of_copies(speech, [1.0, 1.15])
    np.testing.assert_allclose(features, recogniser.features(speech), atol=1e-3)
    other = recogniser.features_of_copies(speech[::-1].copy(), [1.15])[0]

    def distance(a, b):
        return np.linalg.norm(a - b) / np.linalg.norm(a - a.mean(axis=0))

    assert 0.05 < distance(features, copy) < 0.8 * distance(features, other)


def test_hears_at_the_frames_of_the_mel(recogniser, speech):
    heard = recogniser.hear(speech, 100, 62.5)
    features = recogniser.features(speech)
    assert heard.shape == (100, 512)
    np.testing.assert_array_equal(heard[0], features[0])
    np.testing.assert_allclose(heard[5], features[4], atol=1e-6)  # both 80 ms
    np.testing.assert_allclose(heard[1], 0.2 * features[0] + 0.8 * features[1], atol=1e-5)


def test_interpolation_ends_at_the_last_feature():
    ramp = np.arange(4, dtype=np.float32)[:, None]
    np.testing.assert_allclose(interpolate(ramp, 50, 7, 62.5)[:, 0], [0, 0.8, 1.6, 2.4, 3, 3, 3])


def test_very_short_recordings(recogniser):
    assert recogniser.features(np.zeros(160, np.float32)).shape == (1, 512)


def test_untrained_network_of_other_sizes():
    network = Recogniser(n_mels=20, dim=16, n_layers=2, n_heads=2)
    assert network(torch.zeros(2, 20, 31)).shape == (2, 16, 16)
