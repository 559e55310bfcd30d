"""Training a network that listens: live encoder, acoustics, and a start from another network."""

import random

import pytest
import torch

from vc_lightning.common.resources import settings
from vc_lightning.data.crops.mel import CropBatch
from vc_lightning.models.autovc import DIM_LIVE, AutoVC
from vc_lightning.models.checkpoints import load_autovc, save
from vc_lightning.models.files.formats import Card
from vc_lightning.training.tasks import autovc as autovc_module
from vc_lightning.training.tasks.autovc import AutoVCModule
from vc_lightning.training.transfer import can_listen, listening_like

SIZES = {
    "dim_neck": 4,
    "dim_emb": 256,
    "dim_pre": 16,
    "freq": 2,
    "dim_decoder": 16,
    "decoder_layers": 1,
    "dim_postnet": 16,
    "f0": True,
    "film": True,
}


def listening():
    torch.manual_seed(0)
    return AutoVC(**SIZES, dim_encoder=8, dim_features=6, dim_acoustics=9).eval()


def reading():
    torch.manual_seed(1)
    network = AutoVC(**SIZES, dim_encoder=DIM_LIVE).eval()
    for film in [*network.decoder.films, *network.postnet.films]:
        torch.nn.init.normal_(film.linear.weight, std=0.02)
    return network


def batch():
    torch.manual_seed(2)
    mels, voices = torch.rand(2, 4, 80, 20), torch.nn.functional.normalize(torch.rand(2, 4, 256))
    f0 = torch.full((4, 20), 120.0)
    heard, acoustics = torch.randn(4, 6, 20), torch.randn(4, 9)
    lengths = torch.tensor([20, 20, 13, 20])
    no_teacher = torch.zeros(4, 20, 0)
    return CropBatch(
        *(mels[0], lengths, voices[0], mels[1], voices[1], f0, no_teacher, heard, acoustics)
    )


@pytest.fixture
def module():
    network = listening()
    card = Card("autovc", network.arguments, settings("mel", "autovc"))
    weights = {"decoder_weight": 1.0, "content_weight": 0.0, "teacher_weight": 0.0}
    return AutoVCModule(
        network,
        card,
        optimizer=torch.optim.Adam,
        scheduler=torch.optim.lr_scheduler.ConstantLR,
        config={},
        **weights,
        content_per_std=False,
        distance="l1",
        reconstruction_reaches_encoder=True,
        live_weight=2.0,
        align_steps=5,
    )


def test_encoder_reads_normalised_features_and_no_mel():
    network, crops = listening(), batch()
    network.features_mean.fill_(0.5)
    network.features_std.fill_(2.0)
    codes = network.encode(crops.heard, crops.input_embedding)
    assert codes.shape == (4, 8, 10)
    other_voice = crops.input_embedding.flip(0)
    torch.testing.assert_close(codes, network.encode(crops.heard, other_voice))
    plain = network.encoder((crops.heard - 0.5) / 2)
    torch.testing.assert_close(codes, plain)
    live = network.encode_live(crops.input_mel, crops.input_embedding)
    assert live.shape == codes.shape
    assert not torch.allclose(live, network.encode_live(crops.target_mel, crops.input_embedding))


def test_conversions_ask_for_clean_recordings():
    network, crops = listening(), batch()
    for film in network.decoder.films:
        torch.nn.init.normal_(film.linear.weight, std=0.1)
    network.clean.copy_(torch.linspace(-1, 1, 9))
    codes = network.encode(crops.heard, crops.input_embedding)
    harmonics = torch.zeros(4, 82, 20)
    given = network.decode(
        codes, 20, crops.target_embedding, harmonics, network.clean.expand(4, -1)
    )
    default = network.decode(codes, 20, crops.target_embedding, harmonics)
    torch.testing.assert_close(default[1], given[1])
    noisy = network.decode(codes, 20, crops.target_embedding, harmonics, crops.acoustics)
    assert not torch.allclose(default[1], noisy[1])


def test_live_encoder_learns_from_the_codes_but_not_the_other_way_round(module, monkeypatch):
    network, crops = module.network, batch()
    monkeypatch.setattr(autovc_module, "MIN_LIVE_FRAMES", 12)
    losses = module.losses(network, crops)
    parts = {k: losses[k] for k in ("postnet", "decoder")}
    torch.testing.assert_close(losses["loss"], sum(parts.values()) + 2 * losses["live"])
    codes = network.encode(crops.heard, crops.input_embedding)
    # The crops that it reads are cut at a frame that depends on the step.
    n_frames = random.Random(0).randint(12, 20) // 2 * 2
    assert n_frames < 20
    live = network.encode_live(crops.input_mel[::2, :, :n_frames], crops.input_embedding[::2])
    valid = torch.ones_like(live)
    valid[1, :, -(-13 // 2) :] = 0  # the third crop has 13 frames
    difference = (live - codes[::2, :, : n_frames // 2]).abs() * valid
    torch.testing.assert_close(losses["live"], difference.sum() / valid.sum())
    losses["live"].backward()
    assert all(p.grad is None or not p.grad.any() for p in network.encoder.parameters())
    assert network.live_encoder.lstm.weight_hh_l0.grad.any()


def test_alignment_trains_the_new_encoder_only(module):
    module.align_until.fill_(5)
    crops = batch()
    module.losses(module.network, crops)["loss"].backward()
    for name, parameter in module.network.named_parameters():
        has_gradient = parameter.grad is not None and parameter.grad.any()
        if name.startswith("encoder.lstm"):
            assert has_gradient, name
        if not name.startswith("encoder."):
            assert not has_gradient, name


def test_a_network_that_reads_mels_goes_on_as_the_live_half():
    source, network = reading(), listening()
    assert can_listen(source, network)
    made = listening_like(source, network).eval()
    crops = batch()
    harmonics = torch.randn(4, 82, 20)
    codes = source.encode(crops.input_mel, crops.input_embedding)
    expected = source.decode(codes, 20, crops.target_embedding, harmonics)
    live = made.encode_live(crops.input_mel, crops.input_embedding)
    torch.testing.assert_close(live, codes)
    found = made.decode(live, 20, crops.target_embedding, harmonics, crops.acoustics)
    torch.testing.assert_close(found[1], expected[1], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(made.encoder.state_dict(), network.encoder.state_dict())
    assert not can_listen(AutoVC(**SIZES, dim_encoder=8), network)
    assert not can_listen(AutoVC(**SIZES | {"dim_pre": 8}, dim_encoder=DIM_LIVE), network)


def test_weight_files_hold_the_listening_network(tmp_path):
    network = listening()
    network.features_mean.uniform_()
    network.clean.uniform_()
    path = tmp_path / "listening.safetensors"
    save(path, network.state_dict(), Card("autovc", network.arguments, settings("mel", "autovc")))
    loaded = load_autovc(path)
    assert loaded.listens
    torch.testing.assert_close(loaded.state_dict(), network.state_dict())
