import numpy as np
import pytest
import torch

from vc_lightning.losses import autovc_losses


def random_terms(batch=2, n_frames=128, freq=32):
    torch.manual_seed(0)
    mels = [torch.rand(batch, 80, n_frames) for _ in range(3)]
    codes = [torch.rand(batch, 64, -(-n_frames // freq)) for _ in range(2)]
    return mels, codes


def test_terms_are_means_over_matching_elements():
    mels, codes = random_terms()
    terms = autovc_losses(*mels, *codes, torch.tensor([128, 128]), 32)
    mel, decoder_mel, postnet_mel = (m.numpy() for m in mels)
    assert terms["postnet"].item() == pytest.approx(np.mean((postnet_mel - mel) ** 2), rel=1e-5)
    assert terms["decoder"].item() == pytest.approx(np.mean((decoder_mel - mel) ** 2), rel=1e-5)
    difference = np.abs(codes[1].numpy() - codes[0].numpy())
    assert terms["content"].item() == pytest.approx(np.mean(difference), rel=1e-5)


def test_a_perfect_reconstruction_costs_nothing():
    (mel, _, _), (codes, _) = random_terms()
    terms = autovc_losses(mel, mel, mel, codes, codes, torch.tensor([128, 128]), 32)
    assert [term.item() for term in terms.values()] == [0, 0, 0]


def test_padding_does_not_count():
    mels, codes = random_terms(batch=2, n_frames=100)
    lengths = torch.tensor([100, 40])
    before = autovc_losses(*mels, *codes, lengths, 32)
    for tensor in mels[1:]:
        tensor[1, :, 40:] += 100
    codes[1][1, :, 2:] += 100  # 40 frames reach into the second code of 32
    after = autovc_losses(*mels, *codes, lengths, 32)
    assert before == after
    codes[1][1, :, 1] += 100
    assert autovc_losses(*mels, *codes, lengths, 32)["content"] > before["content"]


def test_shapes_that_would_broadcast_are_refused():
    mels, codes = random_terms()
    with pytest.raises(ValueError, match="mels"):
        autovc_losses(mels[0], mels[1][:, None], mels[2], *codes, torch.tensor([128, 128]), 32)
    with pytest.raises(ValueError, match="codes"):
        autovc_losses(*mels, codes[0], codes[1][:1], torch.tensor([128, 128]), 32)
