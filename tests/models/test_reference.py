"""Attention to the target's own frames."""

import pytest
import torch

from helpers import TINY
from vc_lightning.common.errors import InputError
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.reference import ReferenceAttention


def attention(scale=10.0):
    """One whose output is not zero any more."""
    torch.manual_seed(0)
    made = ReferenceAttention(n_mels=80, dim_codes=8, dim=16)
    torch.nn.init.normal_(made.output.weight, std=0.1)
    with torch.no_grad():
        made.log_scale.fill_(torch.tensor(scale).log())
    return made.eval()


def frames(seed, n, batch=1):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(batch, 8, n, generator=generator)
    return codes, torch.rand(batch, 80, n, generator=generator)


def test_untrained_attention_changes_nothing():
    made = ReferenceAttention(n_mels=80, dim_codes=8, dim=16)
    mel = frames(0, 20)[1]
    assert torch.equal(made(frames(0, 20)[0], mel, made.remember(*frames(1, 30))), mel)


def test_order_of_the_reference_does_not_matter():
    made = attention()
    reference = made.remember(*frames(1, 50))
    shuffled = reference[:, :, torch.randperm(50, generator=torch.Generator().manual_seed(2))]
    expected = made(*frames(0, 20), reference)
    torch.testing.assert_close(made(*frames(0, 20), shuffled), expected, atol=1e-5, rtol=0)
    other = made.remember(*frames(3, 50))
    assert (made(*frames(0, 20), other) - expected).abs().max() > 0.01


def test_padding_of_the_reference_does_not_matter():
    made = attention()
    reference = made.remember(*frames(1, 50))
    padded = torch.cat([reference, 9 * torch.ones(1, reference.shape[1], 10)], dim=-1)
    is_frame = torch.arange(60)[None] < 50
    expected = made(*frames(0, 20), reference)
    torch.testing.assert_close(made(*frames(0, 20), padded, is_frame), expected)


def test_long_mels_attend_in_pieces(monkeypatch):
    made = attention()
    reference = made.remember(*frames(1, 50))
    expected = made(*frames(0, 100), reference)
    monkeypatch.setattr("vc_lightning.models.reference.QUERIES", 32)
    torch.testing.assert_close(made(*frames(0, 100), reference), expected)


def test_a_frame_attends_to_the_frame_that_says_the_same():
    """With a large scale only the best one counts: all others may be left out."""
    made = attention(scale=1e5)
    codes, mel = frames(0, 30)
    among_others = torch.cat([made.remember(*frames(1, 40)), made.remember(codes, mel)], dim=-1)
    alone = made(codes, mel, made.remember(codes, mel))
    torch.testing.assert_close(made(codes, mel, among_others), alone, atol=1e-5, rtol=0)


def test_network_remembers_codes_of_frames():
    """Each code stands for `freq` frames, of the reference as of the source."""
    torch.manual_seed(0)
    network = AutoVC(**TINY, dim_reference=16).eval()
    voice = torch.nn.functional.normalize(torch.rand(1, 256), dim=1)
    mel = torch.rand(1, 80, 21)
    remembered = network.remember(mel, voice, mel)
    codes = network.repeat_codes(network.encode(mel, voice), 21)
    assert torch.equal(remembered, network.reference.remember(codes, mel))
    assert torch.equal(remembered[:, -80:], mel)
    assert not AutoVC(**TINY).has_reference


def test_refuses_impossible_width():
    with pytest.raises(InputError, match=r"model\.dim_reference=-1"):
        AutoVC(**TINY, dim_reference=-1)
