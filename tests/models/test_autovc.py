import pytest
import torch

from helpers import TINY
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.models.autovc import AutoVC


def inputs(n_frames, batch=2):
    torch.manual_seed(1)
    return torch.rand(batch, 80, n_frames), *torch.rand(2, batch, 256)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_published_sizes():
    assert count(AutoVC(32, 256, 512, 32)) == pytest.approx(28.4e6, rel=0.002)
    small = resources.settings("model", "autovc") | resources.settings("model", "autovc_small")
    small = {k: v for k, v in small.items() if k != "defaults"} | {"n_mels": 80}
    assert 5e6 < count(AutoVC(**small)) < 8e6


@pytest.mark.parametrize("n_frames", [1, 7, 8, 9, 64, 100])
def test_keeps_any_length(tiny_autovc, n_frames):
    mel, source, target = inputs(n_frames)
    decoder_mel, postnet_mel, codes = tiny_autovc(mel, source, target)
    assert decoder_mel.shape == postnet_mel.shape == mel.shape
    assert codes.shape == (2, 8, -(-n_frames // 8))
    assert torch.equal(codes, tiny_autovc.encode(mel, source))


def test_codes_are_sampled_after_whole_block(tiny_autovc):
    mel, source, _ = inputs(32)
    x = torch.cat([mel, source[:, :, None].expand(-1, -1, 32)], dim=1)
    for convolution in tiny_autovc.encoder.convolutions:
        x = torch.relu(convolution(x))
    hidden = tiny_autovc.encoder.lstm(x.transpose(1, 2))[0]  # (B, T, 8), forward then backward
    codes = tiny_autovc.encode(mel, source)
    for block in range(4):
        first, last = 8 * block, 8 * block + 7
        expected = torch.cat([hidden[:, last, :4], hidden[:, first, 4:]], dim=1)
        torch.testing.assert_close(codes[:, :, block], expected)


def test_decoder_depends_on_codes_and_target_only(tiny_autovc):
    mel, source, target = inputs(16)
    codes = tiny_autovc.encode(mel, source)
    content = torch.stack([codes[:, :, t // 8] for t in range(16)], dim=2)
    x = torch.cat([content, target[:, :, None].expand(-1, -1, 16)], dim=1)
    decoder_mel, postnet_mel, _ = tiny_autovc(mel, source, target)
    torch.testing.assert_close(decoder_mel, tiny_autovc.decoder(x, target))
    residual = tiny_autovc.postnet(decoder_mel, target)
    torch.testing.assert_close(postnet_mel, decoder_mel + residual)
    assert not torch.allclose(postnet_mel, tiny_autovc(mel, source, source)[1])


def test_film_starts_as_identity():
    torch.manual_seed(0)
    plain = AutoVC(**TINY).eval()
    film = AutoVC(**TINY, film=True).eval()
    missing, unexpected = film.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {name.split(".films.")[0] for name in missing} == {"decoder", "postnet"}
    mel, source, target = inputs(16)
    torch.testing.assert_close(film(mel, source, target), plain(mel, source, target))
    layer = film.postnet.films[2]
    torch.nn.init.normal_(layer.linear.weight)
    x = torch.randn(2, 16, 5)
    scale, shift = (16 * target @ layer.linear.weight.T).chunk(2, dim=1)
    expected = x * (1 + scale[..., None]) + shift[..., None]
    torch.testing.assert_close(layer(x, target), expected)
    assert not torch.allclose(film(mel, source, target)[1], plain(mel, source, target)[1])


def test_initial_output_is_mean_mel(tiny_autovc):
    mean = torch.linspace(0.2, 0.6, 80)
    tiny_autovc.decoder.projection.weight.data.zero_()
    tiny_autovc.initialize_output(mean)
    mel, source, target = inputs(24)
    expected = mean[:, None].expand(2, 80, 24)
    torch.testing.assert_close(tiny_autovc.train()(mel, source, target)[1], expected)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("value", [0, -1, 1.5, "x", None, True])
def test_refuses_impossible_sizes(name, value):
    with pytest.raises(InputError, match=f"model.{name}={value}"):
        AutoVC(**TINY | {name: value})


def test_f0_reaches_decoder_only():
    torch.manual_seed(0)
    network = AutoVC(**TINY, f0=True).eval()
    mel, voices = torch.rand(1, 80, 32), torch.rand(2, 1, 256)
    low, high = torch.rand(2, 1, 82, 32)
    converted, *_, codes = network(mel, *voices, low)
    other, *_, same_codes = network(mel, *voices, high)
    assert torch.equal(codes, same_codes)
    assert not torch.allclose(converted, other)
    later = torch.cat([low[..., :20], high[..., 20:]], dim=-1)
    changed = (network(mel, *voices, later)[0] - converted).abs().amax(dim=(0, 1)) > 0
    assert not changed[:14].any()  # the decoder's convolutions look six frames ahead
    assert changed[20:].all()


def test_f0_flag_must_be_boolean():
    with pytest.raises(InputError, match=r"model\.f0=1: give true or false"):
        AutoVC(**TINY, f0=1)


def test_sharpening_multiplies_what_rises_above_the_average():
    torch.manual_seed(0)
    mel = torch.rand(1, 80, 3)
    assert torch.equal(AutoVC(**TINY).sharpened(mel), mel)
    sharp = AutoVC(**TINY, contrast=0.5).sharpened(mel)
    average = mel[0, 30:51].mean(dim=0)  # of the 21 bands around band 40
    torch.testing.assert_close(sharp[0, 40], 1.5 * mel[0, 40] - 0.5 * average)
    first = (11 * mel[0, 0] + mel[0, 1:11].sum(dim=0)) / 21  # beyond the edge, it repeats
    torch.testing.assert_close(sharp[0, 0], 1.5 * mel[0, 0] - 0.5 * first)
    flat = torch.full((1, 80, 3), 0.3)
    torch.testing.assert_close(AutoVC(**TINY, contrast=0.5).sharpened(flat), flat)
    with pytest.raises(InputError, match=r"model\.contrast=5"):
        AutoVC(**TINY, contrast=5.0)
