import numpy as np
import pytest
import torch

from vc_lightning.training.losses import autovc_losses, masked_mean, valid_elements


def random_terms(batch=2, n_frames=128, freq=32):
    torch.manual_seed(0)
    mels = [torch.rand(batch, 80, n_frames) for _ in range(3)]
    codes = [torch.rand(batch, 64, -(-n_frames // freq)) for _ in range(2)]
    return mels, codes


def whole(n_frames):
    """Mask two utterances without padding."""
    return valid_elements(torch.tensor([n_frames, n_frames]), n_frames, 32)


def test_terms_are_means():
    mels, codes = random_terms()
    terms = autovc_losses(*mels, *codes, whole(128))
    mel, decoder_mel, postnet_mel = (m.numpy() for m in mels)
    assert terms["postnet"].item() == pytest.approx(np.mean((postnet_mel - mel) ** 2), rel=1e-5)
    assert terms["decoder"].item() == pytest.approx(np.mean((decoder_mel - mel) ** 2), rel=1e-5)
    difference = np.abs(codes[1].numpy() - codes[0].numpy())
    assert terms["content"].item() == pytest.approx(np.mean(difference), rel=1e-5)


def test_perfect_reconstruction_has_zero_loss():
    (mel, _, _), (codes, _) = random_terms()
    terms = autovc_losses(mel, mel, mel, codes, codes, whole(128))
    assert [term.item() for term in terms.values()] == [0, 0, 0]


def test_ignores_padding():
    mels, codes = random_terms(batch=2, n_frames=100)
    valid = valid_elements(torch.tensor([100, 40]), 100, 32)
    before = autovc_losses(*mels, *codes, valid)
    for tensor in mels[1:]:
        tensor[1, :, 40:] += 100
    codes[1][1, :, 2:] += 100  # 40 frames reach into the second code of 32
    after = autovc_losses(*mels, *codes, valid)
    assert before == after
    codes[1][1, :, 1] += 100
    assert autovc_losses(*mels, *codes, valid)["content"] > before["content"]


def test_refuses_broadcasting_shapes():
    mels, codes = random_terms()
    with pytest.raises(ValueError, match="mels"):
        autovc_losses(mels[0], mels[1][:, None], mels[2], *codes, whole(128))
    with pytest.raises(ValueError, match="codes"):
        autovc_losses(*mels, codes[0], codes[1][:1], whole(128))


def test_counts_valid_elements():
    valid = valid_elements(torch.tensor([100, 40, 0]), 100, 32)
    assert valid.frames.shape == (3, 1, 100)
    assert valid.frames.sum(dim=(1, 2)).tolist() == [100, 40, 0]
    assert valid.codes.sum(dim=(1, 2)).tolist() == [4, 2, 0]
    assert (valid.n_frames.item(), valid.n_codes.item()) == (140, 6)
    values = torch.arange(600.0).reshape(3, 2, 100)
    kept = torch.cat([values[0].flatten(), values[1, :, :40].flatten()])
    torch.testing.assert_close(masked_mean(values, valid.frames, valid.n_frames), kept.mean())
