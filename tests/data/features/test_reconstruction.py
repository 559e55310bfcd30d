import torch

from helpers import TINY
from vc_lightning.data.features.reconstruction import reconstructed_mel
from vc_lightning.models.autovc import AutoVC


def test_a_half_attends_to_the_other_one():
    """No frame finds itself: the mel of a half shows in the conversion of the other half only."""
    torch.manual_seed(0)
    network = AutoVC(**TINY, dim_features=6, dim_reference=16, contrast=0.5).eval()
    torch.nn.init.normal_(network.reference.output.weight)
    content, mel, voice = torch.rand(1, 6, 45), torch.rand(1, 80, 45), torch.rand(1, 256)
    half = 3 * network.freq  # of six codes; the keys of a frame read three more
    other = torch.cat([torch.rand(1, 80, half - 3), mel[..., half - 3 :]], dim=-1)
    with torch.no_grad():
        made, changed = (
            reconstructed_mel(network, content, x, voice, None, None) for x in (mel, other)
        )
        blurred = network(content, voice, voice)[1]
        sharpened = network.sharpened(blurred)
    assert made.shape == mel.shape
    assert torch.equal(changed[..., :half], made[..., :half])
    assert (changed - made)[..., half:].abs().amin(dim=(0, 1)).median() > 1e-4
    assert (made - sharpened).abs().mean() > 0.01
    torch.nn.init.zeros_(network.reference.output.weight)
    with torch.no_grad():
        unrefined = reconstructed_mel(network, content, mel, voice, None, None)
    torch.testing.assert_close(unrefined, sharpened)


def test_a_single_code_has_no_other_half():
    network = AutoVC(**TINY, dim_reference=16).eval()
    mel, voice = torch.rand(1, 80, network.freq), torch.rand(1, 256)
    with torch.no_grad():
        made = reconstructed_mel(network, mel, mel, voice, None, None)
        assert torch.equal(made, network(mel, voice, voice)[1])
