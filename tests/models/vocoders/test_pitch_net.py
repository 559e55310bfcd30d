"""The network that reads the pitch off a mel."""

import torch

from vc_lightning.models.vocoders.source_filter.pitch_net import PitchNet


def test_learns_exact_pitch():
    network = PitchNet(80, 8, 1)
    f0 = torch.tensor([[0.0, 61, 123.4, 220, 499]])
    height = 24 * (f0.clamp(min=60) / 60).log2()
    classes = torch.arange(network.n_pitches)
    target = (1 - (height[..., None] - classes).abs()).clamp(min=0) * (f0 > 0)[..., None]
    target = torch.cat([(f0 == 0)[..., None].float(), target], dim=-1)
    network.logits = lambda _: target.clamp(min=1e-9).log()
    torch.testing.assert_close(network(torch.zeros(1, 80, 5)), f0, atol=1e-3, rtol=1e-4)
    entropy = -(target * target.clamp(min=1e-9).log()).sum(-1).mean()
    torch.testing.assert_close(network.loss(torch.zeros(1, 80, 5), f0), entropy)
