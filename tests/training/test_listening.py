"""Training a network that listens: live encoder, acoustics, and a start from another network."""

import random
from dataclasses import replace

import pytest
import torch

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.common.resources import settings
from vc_lightning.data.crops.mel import CropBatch
from vc_lightning.models.autovc import DIM_LIVE, AutoVC
from vc_lightning.models.checkpoints import load_autovc, read_autovc, read_speaker_encoder, save
from vc_lightning.models.critics.speaker import SpeakerCritic
from vc_lightning.models.critics.word import WordCritic
from vc_lightning.models.files.formats import Card
from vc_lightning.models.recogniser import Recogniser
from vc_lightning.training import losses as losses_module
from vc_lightning.training.losses import Critics
from vc_lightning.training.tasks.autovc import AutoVCModule
from vc_lightning.training.tasks.base import RunSettings
from vc_lightning.training.teacher_head import TeacherHead
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
        RunSettings(card, torch.optim.Adam, torch.optim.lr_scheduler.ConstantLR, {}),
        **weights,
        content_per_std=False,
        distance="l1",
        reconstruction_reaches_encoder=True,
        live_weight=2.0,
        align_steps=5,
        head_steps=0,
        reference_weight=0.0,
        critic_feature_weight=0.0,
        critic_similarity_weight=0.0,
        word_weight=0.0,
        voice_weight=0.0,
        conversion_weight=0.0,
        decoder_similarity_weight=0.0,
        part=None,
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
    monkeypatch.setattr(losses_module, "MIN_LIVE_FRAMES", 12)
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


def attending_module(network=None, speaker_encoder="", **changes):
    torch.manual_seed(0)
    if network is None:
        network = AutoVC(**SIZES, dim_encoder=8, dim_features=6, dim_acoustics=9, dim_reference=16)
        torch.nn.init.normal_(network.reference.output.weight, std=0.1)
    card = Card("autovc", network.arguments, settings("mel", "autovc"), speaker_encoder)
    values = settings("task", "autovc")
    values |= {"distance": "l1", "content_weight": 0.0, "teacher_weight": 0.0, "align_steps": 0}
    adam, constant = torch.optim.Adam, torch.optim.lr_scheduler.ConstantLR
    return AutoVCModule(network, RunSettings(card, adam, constant, {}), **values | changes)


def attending_batch():
    torch.manual_seed(3)
    return batch()._replace(
        reference_mel=torch.rand(4, 80, 30),
        reference_heard=torch.randn(4, 6, 30),
        reference_lengths=torch.tensor([30, 12, 30, 30]),
    )


def test_refined_mels_train_the_attention_only():
    module, given = attending_module(), attending_batch()
    losses = module.losses(module.network, given)
    total = losses["loss"] - losses["postnet"] - losses["decoder"] - losses["live"]
    expected = module.reference_weight * losses["refined"]
    expected += module.critic_feature_weight * losses["critic_features"]
    expected += module.critic_similarity_weight * losses["critic_distance"]
    torch.testing.assert_close(total, expected)
    expected.backward()
    for name, parameter in module.network.named_parameters():
        has_gradient = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert has_gradient == name.startswith("reference."), name
    assert not any("critic" in name for name in module.state_dict())
    padded = given._replace(reference_mel=given.reference_mel.clone())
    padded.reference_mel[1, :, 15:] = 9  # beyond the reach of the last frame's convolution
    again = module.losses(module.network.eval(), padded)["refined"]
    same = module.losses(module.network, given)["refined"]
    torch.testing.assert_close(again, same)


def test_attention_may_stay_as_it_is():
    module = attending_module(reference_weight=0.0)
    module.setup("fit")
    assert "refined" not in module.losses(module.network, attending_batch())
    assert not any(p.requires_grad for p in module.network.reference.parameters())
    without_critic = attending_module(critic_feature_weight=0.0, critic_similarity_weight=0.0)
    losses = without_critic.losses(without_critic.network, attending_batch())
    assert "refined" in losses
    assert "critic_features" not in losses


@pytest.mark.parametrize(
    ("part", "modules"),
    [
        ("reference", {"reference"}),
        ("decoder", {"decoder", "postnet"}),
        ("encoders", {"encoder", "live_encoder"}),
        ("mels", {"decoder", "postnet", "reference"}),
    ],
)
def test_one_part_is_trained_alone(part, modules):
    module = attending_module(part=part, reference_weight=5.0, teacher_weight=1.0)
    module.head = TeacherHead(8, 2, torch.ones(6)) if part == "encoders" else None
    module.setup("fit")
    module.on_train_start()
    before = {name: value.clone() for name, value in module.network.state_dict().items()}
    optimizer = torch.optim.Adam(module.trained_parameters(), lr=0.01)
    given = attending_batch()._replace(teacher=torch.randn(4, 20, 6))
    losses = module.losses(module.network, given)
    assert losses["codes_std"] > 0  # which the conversion monitor watches
    losses["loss"].backward()
    optimizer.step()
    after = module.network.state_dict()
    changed = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert changed == modules


def test_a_new_head_learns_the_codes_before_it_changes_them():
    given = attending_batch()._replace(teacher=torch.randn(4, 20, 6))
    for head_steps in (0, 1):
        module = attending_module(part="encoders", teacher_weight=1.0, head_steps=head_steps)
        module.head = TeacherHead(8, 2, torch.ones(6))
        module.losses(module.network, given)["teacher"].backward()
        reaches = [bool(p.grad.any()) for p in module.network.encoder.parameters()]
        assert any(reaches) == (head_steps == 0)
        assert all(p.grad is not None for p in module.network.encoder.parameters())
        assert all(bool(p.grad.any()) for p in module.head.parameters())


def test_a_part_must_be_there_and_have_a_loss():
    for changes in ({"reference_weight": 0.0}, {"network": listening()}):
        for part in ("reference", "mels"):
            with pytest.raises(InputError, match=rf"task\.part={part}: there is nothing"):
                attending_module(part=part, **changes)
    with pytest.raises(InputError, match=r"task\.part=encoders: only a teacher"):
        attending_module(part="encoders", teacher_weight=0.0)
    with pytest.raises(InputError, match=r"task\.part=all"):
        attending_module(part="all")


def hearing_module(**changes):
    """A module whose word critic is small and, unlike the shipped recogniser, fits the network."""
    module = attending_module(word_weight=0.5, critic_feature_weight=0.0, **changes)
    module.critic_similarity_weight = 0.0
    recogniser = Recogniser(80, 6, n_layers=1, n_heads=1)
    module.critics = Critics(words=WordCritic(recogniser, module.mel))
    return module


def test_words_train_decoder_and_postnet_but_not_the_encoder():
    module = hearing_module(reference_weight=0.0, reconstruction_reaches_encoder=False)
    module.network.train()
    losses = module.losses(module.network, attending_batch())
    rest = losses["postnet"] + losses["decoder"] + losses["live"]
    torch.testing.assert_close(losses["loss"], rest + 0.5 * losses["words"])
    losses["words"].backward()
    names = {name for name, p in module.network.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in names} == {"decoder", "postnet"}
    assert not any("critic" in name or "recogniser" in name for name in module.state_dict())


@pytest.mark.parametrize(
    ("part", "modules"),
    [("reference", {"reference"}), ("mels", {"decoder", "postnet", "reference"})],
)
def test_words_train_through_refined_mels(part, modules):
    module = hearing_module(part=part)
    module.setup("fit")
    module.losses(module.network, attending_batch())["words"].backward()
    names = {name for name, p in module.network.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in names} == modules


@pytest.mark.parametrize(
    ("part", "modules"),
    [("reference", {"reference"}), ("mels", {"decoder", "postnet", "reference"})],
)
def test_conversions_between_crops_are_judged_by_voice_and_words(part, modules):
    module = hearing_module(part=part, conversion_weight=0.25)
    module.critics = replace(module.critics, speaker=SpeakerCritic(80, 8, 8, 8).eval())
    module.critic_similarity_weight = 3.0
    module.setup("fit")
    module.network.eval()
    torch.nn.init.normal_(module.network.reference.output.weight, std=0.1)
    given = attending_batch()
    losses = module.losses(module.network, given)
    rest = losses["postnet"] + losses["decoder"] + module.reference_weight * losses["refined"]
    rest = rest + 0.5 * losses["words"] + 3 * losses["critic_distance"]
    added = 0.25 * (3 * losses["converted_distance"] + 0.5 * losses["converted_words"])
    torch.testing.assert_close(losses["loss"], rest + added)
    (losses["converted_distance"] + losses["converted_words"]).backward()
    names = {name for name, p in module.network.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in names} == modules

    def converted(**changes):
        with torch.no_grad():
            found = module.losses(module.network, given._replace(**changes))
        return float(found["converted_distance"]), float(found["converted_words"])

    same = converted()
    # Crop 0 gets the voice of crop 3, and crop 2 that of crop 1.
    mel = given.target_mel.clone()
    mel[[1, 3]] = torch.rand(2, 80, 20)
    other = converted(target_mel=mel)
    assert other[0] != same[0]
    assert other[1] == same[1]
    reference = given.reference_mel.clone()
    reference[[1, 3]] = torch.rand_like(reference[[1, 3]])
    assert converted(reference_mel=reference) != same
    reference = given.reference_mel.clone()
    reference[[0, 2]] = torch.rand_like(reference[[0, 2]])
    assert converted(reference_mel=reference) == same


def test_conversions_train_a_decoder_that_trains_alone():
    module = hearing_module(part="decoder", decoder_similarity_weight=0.75)
    module.critics = replace(module.critics, speaker=SpeakerCritic(80, 8, 8, 8).eval())
    module.setup("fit")
    module.network.eval()
    given = attending_batch()
    losses = module.losses(module.network, given)
    rest = losses["postnet"] + losses["decoder"] + 0.5 * losses["words"]
    added = 0.75 * losses["converted_distance"] + 0.5 * losses["converted_words"]
    torch.testing.assert_close(losses["loss"], rest + added)
    (losses["converted_distance"] + losses["converted_words"]).backward()
    names = {name for name, p in module.network.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in names} == {"decoder", "postnet"}
    # Crop 0 is heard in the voice of crop 3, and crop 2 in that of crop 1; no frame refines it.
    with torch.no_grad():
        reference = torch.rand_like(given.reference_mel)
        same = module.losses(module.network, given._replace(reference_mel=reference))
        far = given.target_embedding.clone()
        far[[1, 3]] = -far[[1, 3]]
        other = module.losses(module.network, given._replace(target_embedding=far))
    for name in ("converted_distance", "converted_words"):
        assert same[name] == losses[name] != other[name]


def test_critics_hear_recordings_once_a_step():
    module = hearing_module(part="reference", conversion_weight=0.25)
    module.critics = replace(module.critics, speaker=SpeakerCritic(80, 8, 8, 8).eval())
    module.setup("fit")
    heard = {"speaker": [], "words": []}
    for name, mels in heard.items():
        critic = getattr(module.critics, name)
        critic.register_forward_pre_hook(lambda _, given, mels=mels: mels.append(given[0]))
    given = attending_batch()
    module.losses(module.network, given)
    recorded = given.target_mel * losses_module.valid_mask(given.lengths, 20)
    for name, (first, *others) in heard.items():
        assert len(others) == 2, name  # refined and converted mels
        torch.testing.assert_close(first, recorded if name == "speaker" else recorded[::2])


def test_conversions_are_heard_in_the_voice_of_their_target():
    module = attending_module(
        speaker_encoder=read_speaker_encoder(resources.SPEAKER_ENCODER)[1].speaker_encoder,
        **{"part": "reference", "conversion_weight": 0.5, "voice_weight": 8.0},
        **{"critic_feature_weight": 0.0, "critic_similarity_weight": 0.0},
    )
    assert module.critics.speaker is None
    module.setup("fit")
    module.network.eval()
    torch.nn.init.normal_(module.network.reference.output.weight, std=0.1)
    given = attending_batch()
    losses = module.losses(module.network, given)
    rest = losses["postnet"] + losses["decoder"] + module.reference_weight * losses["refined"]
    torch.testing.assert_close(losses["loss"], rest + 0.5 * 8 * losses["converted_voice"])
    losses["converted_voice"].backward()
    names = {name for name, p in module.network.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in names} == {"reference"}
    # Crop 0 gets the voice of crop 3, and crop 2 that of crop 1.
    far = given.target_embedding.clone()
    far[[1, 3]] = -far[[1, 3]]
    with torch.no_grad():
        assert (
            module.losses(module.network, given._replace(target_embedding=far))["converted_voice"]
            > 1.2
        )
    with pytest.raises(InputError, match=r"task\.voice_weight: .* set task\.voice_weight=0"):
        attending_module(part="reference", conversion_weight=1.0, voice_weight=1.0)
    unpitched = AutoVC(**SIZES | {"f0": False}, dim_encoder=8, dim_features=6, dim_reference=16)
    with pytest.raises(InputError, match=r"task\.voice_weight=1\.0: .* or model\.f0=true"):
        attending_module(unpitched, part="reference", conversion_weight=1.0, voice_weight=1.0)


def test_recogniser_hears_every_second_crop_of_both_mels_in_turns():
    given = attending_batch()
    valid = losses_module.valid_elements(torch.tensor([20, 20, 13, 20]), 20, 2)
    mel = MelSpectrogram(**settings("mel", "autovc"))
    critic = WordCritic(Recogniser(80, 6, n_layers=1, n_heads=1), mel)
    same, other = given.target_mel, torch.rand(4, 80, 20)

    def loss(made):
        heard = losses_module.hear(Critics(words=critic), given, valid, len(made))
        return losses_module.word_loss(critic, made, valid, heard.words)

    assert loss([same]) == 0
    assert loss([other]) > 0.1
    mixed = same.clone()
    mixed[1::2] = other[1::2]
    assert loss([mixed]) == 0  # only crops 0 and 2 are heard
    mixed = other.clone()
    mixed[0] = same[0]
    assert loss([mixed, torch.cat([other[:1], same[1:]])]) == 0  # crop 0 of one, 1 of the other
    padded = same.clone()
    padded[2, :, 13:] = 1
    assert loss([padded]) == 0


def test_words_need_a_recogniser():
    with pytest.raises(InputError, match=r"task\.word_weight=0\.5: only a network that listens"):
        attending_module(reading(), reference_weight=0.0, word_weight=0.5)


def test_a_network_that_listens_has_no_content_term():
    with pytest.raises(InputError, match=r"set task\.content_weight=0"):
        attending_module(content_weight=0.5)


def test_older_weights_get_an_attention_that_changes_nothing(tmp_path):
    module, source = attending_module(), listening()
    card = Card("autovc", source.arguments, settings("mel", "autovc"))
    path = save(tmp_path / "a.safetensors", source.state_dict(), card)
    read, card = read_autovc(path, 8)
    module.take_weights(read, card, "init_from")
    module.network.eval()
    codes, mel = source.encode(torch.randn(1, 6, 16), None), torch.rand(1, 80, 16)
    reference = module.network.remember(torch.randn(1, 6, 30), None, torch.rand(1, 80, 30))
    before = source.state_dict()
    assert all(torch.equal(module.network.state_dict()[k], v) for k, v in before.items())
    module.network.reference.output.weight.data.zero_()
    assert torch.equal(module.network.refined(codes, mel, reference), mel)


def test_a_wider_bottleneck_begins_with_the_same_mels(tmp_path):
    narrow = attending_module().network.eval()
    with torch.no_grad():
        for name, weight in narrow.named_parameters():
            if "lstm" in name:
                weight.normal_(std=0.3)
    wide = AutoVC(**narrow.arguments | {"dim_neck": 6})
    module = attending_module(wide)
    card = Card("autovc", narrow.arguments, settings("mel", "autovc"))
    module.take_weights(narrow, card, "init_from")
    wide.eval()
    crops = batch()
    codes = narrow.encode(crops.heard, None)
    wider = wide.encode(crops.heard, None)
    old, new = [0, 1, 2, 3, 6, 7, 8, 9], [4, 5, 10, 11]
    torch.testing.assert_close(wider[:, old], codes)
    assert (wider[:, new].std(dim=(0, 2)) > 1e-3).all()
    harmonics = torch.randn(4, 82, 20)
    voice = crops.target_embedding
    expected = narrow.decode(codes, 20, voice, harmonics)
    torch.testing.assert_close(wide.decode(wider, 20, voice, harmonics), expected)
    live = narrow.encode_live(crops.input_mel, crops.input_embedding)
    wider_live = wide.encode_live(crops.input_mel, crops.input_embedding)
    torch.testing.assert_close(wider_live[:, old], live)
    references = [n.remember(crops.heard, None, crops.target_mel) for n in (narrow, wide)]
    torch.testing.assert_close(*references)
    with pytest.raises(InputError, match=r"dim_neck 6 != 4"):
        attending_module().take_weights(wide, card, "init_from")


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
