"""AutoVCModule and the callbacks, in training runs of a tiny network by train.py."""

import csv
import shutil

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningDataModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers import composed, weights
from vc_lightning.commands import train
from vc_lightning.data.crops.mel import CropBatch
from vc_lightning.data.modules.base import TrainingDataModule
from vc_lightning.data.modules.voice import VoiceDataModule
from vc_lightning.models import checkpoints
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import Card
from vc_lightning.training.callbacks.ema import ema_decay
from vc_lightning.training.losses import autovc_losses, valid_elements
from vc_lightning.training.schedulers import noam
from vc_lightning.training.tasks.autovc import AutoVCModule
from vc_lightning.training.tasks.base import RunSettings
from vc_lightning.training.teacher_head import TeacherHead
from vc_lightning.training.transfer import add_f0_conditioning


def test_saves_current_and_average_weights(run, mel_settings, encoder):
    folder = run("checkpoint.name=mine", "trained_on=a b", "licence=CC0")
    names = {path.name for path in (folder / "checkpoints").iterdir()}
    assert names == {
        *(f"mine_step{s}_{k}.safetensors" for s in (2, 4) for k in ("average", "original")),
        "last.ckpt",
    }
    network, card = weights(folder, 4, "average", "mine")
    assert (card.step, card.weights, card.trained_on, card.licence) == (4, "average", "a b", "CC0")
    assert card.mel == mel_settings
    assert card.speaker_encoder == checkpoints.identity("ge2e", encoder.state_dict())
    assert card.network == network.arguments
    # last.ckpt can be read as a weight file.
    last = checkpoints.load_autovc(folder / "checkpoints/last.ckpt").state_dict()
    assert all(torch.equal(value, last[key]) for key, value in network.state_dict().items())


def test_average_equals_hand_computed_ema(run):
    """Computed from the weights of every step."""
    folder = run("checkpoint.every_n_steps=1", "trainer.max_steps=5")
    originals = [weights(folder, step, "original")[0].state_dict() for step in range(1, 6)]
    key = "encoder.convolutions.0.conv.weight"
    norm = "postnet.convolutions.0.norm.running_var"
    torch.manual_seed(0)
    for name in (key, norm):
        average = weights(folder, 1, "average")[0].state_dict()[name].double()
        for step in range(1, 5):
            decay = (1 + step) / (10 + step)
            average = decay * average + (1 - decay) * originals[step][name].double()
        result = weights(folder, 5, "average")[0].state_dict()[name]
        torch.testing.assert_close(result.double(), average, atol=1e-7, rtol=1e-5)
        assert not torch.allclose(result, originals[-1][name])


def test_ema_decay_warm_up():
    assert ema_decay(0, 0.9999) == pytest.approx(0.1)
    assert ema_decay(90, 0.9999) == pytest.approx(0.91)
    assert ema_decay(10**9, 0.9999) == 0.9999


@pytest.mark.parametrize("resumes", [False, True])
def test_average_keeps_a_share_of_its_start(run, trained, resumes):
    path = trained / "checkpoints/autovc_step4_average.safetensors"
    line = [f"init_from={path}", "optimizer.lr=1e-2"]
    share = "callbacks.ema.start_share=0.25"
    plain, shared = run(*line, name="plain"), run(*line, share, name="shared")
    if resumes:
        half = run(*line, share, "trainer.max_steps=2", name="half")
        shared = run(*line, share, f"ckpt_path={half}/checkpoints/last.ckpt", name="resumed")
    start = checkpoints.load_autovc(path).state_dict()
    average = weights(plain, 4, "average")[0].state_dict()
    found = weights(shared, 4, "average")[0].state_dict()
    for name, value in found.items():
        wanted = torch.lerp(average[name].float(), start[name].float(), 0.25)
        torch.testing.assert_close(value.float(), wanted, atol=1e-6, rtol=1e-5)
    changed = "encoder.convolutions.0.conv.weight"
    assert not torch.allclose(found[changed], average[changed], atol=1e-5)


def test_a_start_from_nothing_has_no_share(run, trained):
    shared = run("callbacks.ema.start_share=0.5", name="shared")
    found, wanted = (weights(folder, 4, "average")[0] for folder in (shared, trained))
    for name, value in found.state_dict().items():
        assert torch.equal(value, wanted.state_dict()[name])


def test_training_lowers_losses(run):
    rarely = ("trainer.val_check_interval=50", "checkpoint.every_n_steps=150")
    folder = run("trainer.max_steps=150", "optimizer.lr=3e-3", *rarely)
    with (folder / "csv/metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/postnet"]]
    terms = {
        name: np.array([float(row[f"train/{name}"]) for row in rows])
        for name in (
            "loss",
            "postnet",
            "decoder",
            "content",
            "postnet_ratio",
            "codes_std",
            "grad_norm",
        )
    }
    assert len(rows) == 150
    for name in ("loss", "postnet", "decoder"):
        assert terms[name][-20:].mean() < 0.8 * terms[name][:20].mean()
    assert terms["postnet_ratio"][0] < 2  # begins near the mean mel
    total = terms["postnet"] + terms["decoder"] + terms["content"]
    np.testing.assert_allclose(terms["loss"], total, rtol=1e-4)
    rates = [float(row["train/lr"]) for row in rows]
    assert rates[:3] == pytest.approx([3e-3 * (i + 1) / 20 for i in range(3)])
    assert max(rates) == rates[19] == pytest.approx(3e-3)


@pytest.mark.parametrize("accumulated", [1, 2])  # batches per optimizer step
def test_tensorboard_content(run, accumulated):
    batches = f"trainer.accumulate_grad_batches={accumulated}"
    line = ("logger=tensorboard", "callbacks.samples.every_n_steps=2", batches)
    folder = run(*line) / "tensorboard"
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "audio": 0}).Reload()
    scalars = set(events.Tags()["scalars"])
    for split in ("train", "val", "val_original"):
        for name in ("loss", "postnet", "decoder", "content", "postnet_ratio", "codes_std"):
            assert f"{split}/{name}" in scalars
    assert {"train/lr", "train/grad_norm", "train/steps_per_second"} <= scalars
    assert "mel/man_to_woman" in events.Tags()["images"]
    assert [event.step for event in events.Images("mel/man_to_woman")] == [2, 4]
    assert {f"man_to_woman/{n}" for n in ("source", "reconstruction", "conversion")} <= set(
        events.Tags()["audio"]
    )
    speakers = next(folder.rglob("metadata.tsv")).read_text().split()
    assert set(speakers) == {"man", "woman"}
    assert "data.batch_size" in (folder / "hparams.yaml").read_text().replace(": \n", ".") or (
        "batch_size: 2" in (folder / "hparams.yaml").read_text()
    )


def test_validates_average_and_current_network(run):
    folder = run("trainer.max_steps=6", "optimizer.lr=1e-2")
    with (folder / "csv/metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/loss"]]
    assert len(rows) == 3
    last = rows[-1]
    assert float(last["val/loss"]) != float(last["val_original/loss"])


def test_init_from_starts_at_step_zero(run, trained):
    path = trained / "checkpoints/autovc_step4_average.safetensors"
    second = run(f"init_from={path}", "optimizer.lr=1e-12", "trainer.max_steps=1", name="second")
    wanted, reached = checkpoints.load_autovc(path), weights(second, 1, "original")[0]
    for ours, theirs in zip(wanted.parameters(), reached.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    assert weights(second, 1, "original")[1].step == 1


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["model.dim_pre=17"], "dim_pre 16 != 17"),
        (["mel.ref_db=0"], "ref_db 16 != 0"),
    ],
)
def test_refuses_mismatched_weights(run, tiny_checkpoint, capsys, overrides, reason):
    with pytest.raises(SystemExit) as stop:
        run(f"init_from={tiny_checkpoint}", *overrides)
    assert stop.value.code == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("choice", ["fdr", "overfit", "profiler"])
def test_debug_modes_run(run, choice):
    folder = run(f"debug={choice}", "trainer.max_steps=1", "trainer.val_check_interval=1")
    assert (folder / "checkpoints/last.ckpt").is_file()


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.precision=bf16-mixed"],
        ["data.crop_frames=null", "logger=none", "task.content_per_std=true"],
        ["trainer.accumulate_grad_batches=2", "data.batch_size=1"],
        ["data.val_fraction=0", "trainer.max_steps=-1", "trainer.max_epochs=1"],
        ["data.num_workers=2", "data.minutes_per_speaker=0.05"],
        ["mel=wavernn"],
        ["data.vtlp_factors=[0.9]", "data.vtlp_probability=1"],
    ],
)
def test_trains_with_other_settings(run, overrides):
    folder = run(*overrides)
    assert (folder / "checkpoints/last.ckpt").is_file()


STOPPING = ["++callbacks.early_stopping._target_=pytorch_lightning.callbacks.EarlyStopping"]


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["seed=-1"], "seed=-1"),
        (["trainer.max_steps=abc"], "trainer.max_steps=abc"),
        (["trainer.max_steps=0"], "no step was taken after step 0"),
        (["trainer.val_check_interval=1.5"], "trainer.val_check_interval=1.5: give a number of"),
        (["trainer.limit_train_batches=0.5"], "trainer.limit_train_batches=0.5"),
        ([f"trainer.limit_train_batches={10**20}"], "trainer.limit_train_batches=1"),
        ([f"trainer.overfit_batches={10**20}"], "trainer.overfit_batches=1"),
        (["compile=abc"], "compile=abc"),
        (["data.shuffle=abc"], "data.shuffle=abc"),
        (["data.augmentations=[3]"], "data.augmentations=[3]: give a list"),
        (["checkpoint.best=val/los"], "val/los: is not logged; logged are val/codes_std"),
        (["checkpoint.resume_every_n_steps=0"], "checkpoint.resume_every_n_steps=0"),
        (["trainer.log_every_n_steps=0"], "trainer.log_every_n_steps=0"),
        (["trainer.gradient_clip_val=-1"], "trainer.gradient_clip_val=-1"),
        (["trainer.precision=5"], "give one of"),
        (["task.content_weight=nan"], "task.content_weight=nan"),
        ([f"task.content_weight={10**20}"], "task.content_weight=1"),
        (["optimizer.lr=abc"], "optimizer.lr=abc: give a number"),
        (["scheduler.warmup=0"], "scheduler.warmup=0"),
        (["callbacks.ema.decay=1"], "callbacks.ema.decay=1"),
        (["callbacks.ema.start_share=1"], "callbacks.ema.start_share=1"),
        (["callbacks.samples.every_n_steps=0"], "callbacks.samples.every_n_steps=0"),
        (["callbacks.samples.vocoder.n_iter=0"], "vocoder.n_iter=0"),
        (["checkpoint.every_n_steps=0"], "checkpoint.every_n_steps=0"),
        (["checkpoint.name=a/b"], "cannot be written"),
        (["mel.fmin=9000"], "mel.fmin=9000"),
        (["mel.gain=0"], "mel.gain=0"),
        (["model.freq=0"], "model.freq=0"),
        (["data.batch_size=0"], "data.batch_size=0"),
        (["data.dir=missing"], "no such folder"),
        (["data.dir=null"], "say what to train on"),
        (["init_from=missing"], "no such file"),
        (["init_from=shipped"], "init_from=shipped: is another network ("),
        (["trainer.accelerator=mps"], "trainer.accelerator=mps: this machine has none; choose one"),
        (["model.dim_emb=3"], "model.dim_emb=3: give 256, the size of a speaker embedding"),
        (["model.n_mels=3"], "model.n_mels=3 does not match mel.n_mels=80"),
        (["model.decoder_layers=2147483648"], "model.decoder_layers=2147483648"),
        (["callbacks.ema=null"], "callbacks.ema: is not a callback"),
        (["trainer.profiler=3"], "trainer.profiler=3: give text or null"),
        (["task.decoder_weight=???"], "task.decoder_weight"),
        (
            [*STOPPING, "+callbacks.early_stopping.monitor=val/los"],
            "callbacks.early_stopping.monitor=val/los: is not logged; logged are val/",
        ),
    ],
)
def test_refuses_impossible_values(run, capsys, overrides, reason):
    with pytest.raises(SystemExit) as stop:
        run(*overrides)
    assert stop.value.code == 2
    _, *errors = capsys.readouterr().err.split("error: ")  # after progress bars
    assert len(errors) == 1
    assert errors[0].count("\n") == 1
    assert reason in errors[0]


def test_stops_diverged_training(run, capsys):
    with pytest.raises(SystemExit) as stop:
        run("optimizer.lr=1e30", "trainer.max_steps=50", "trainer.gradient_clip_val=null")
    assert stop.value.code == 2
    assert "lower optimizer.lr" in capsys.readouterr().err


def test_trains_without_callbacks(arguments, tmp_path, caplog):
    """Then the validation's values are those of the network itself, which is also resumed."""
    caplog.set_level("INFO")
    for steps, more in ((2, []), (4, [f"ckpt_path={tmp_path}/run/checkpoints/last.ckpt"])):
        line = arguments("callbacks=none", "checkpoint.best=val/loss", *more)
        kept = [one for one in line if not one.startswith("callbacks.")]
        train.main(composed("train", *kept, f"trainer.max_steps={steps}"))
    average, original = (weights(tmp_path / "run", 4, k)[0] for k in ("average", "original"))
    for name, value in original.state_dict().items():
        assert torch.equal(value, average.state_dict()[name]), name
    assert (tmp_path / "run/checkpoints/autovc_best_average.safetensors").is_file()


@pytest.fixture
def module(tiny_autovc, mel_settings):
    module = AutoVCModule(
        network=tiny_autovc,
        run=RunSettings(
            card=Card("autovc", tiny_autovc.arguments, mel_settings),
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
            scheduler=lambda optimizer: noam(optimizer, 10),
            config={},
        ),
        decoder_weight=0.5,
        content_weight=3.0,
        content_per_std=False,
        distance="l2",
        teacher_weight=0.0,
        reconstruction_reaches_encoder=True,
        live_weight=1.0,
        align_steps=0,
        head_steps=0,
        reference_weight=0.0,
        critic_feature_weight=0.0,
        word_weight=0.0,
        critic_similarity_weight=0.0,
        voice_weight=0.0,
        conversion_weight=0.0,
        decoder_similarity_weight=0.0,
        part=None,
    )
    module.mean_mel.fill_(0.4)
    return module


def test_loss_is_weighted_sum(module, tiny_autovc):
    torch.manual_seed(2)
    mels, voices = torch.rand(2, 2, 80, 20), torch.rand(2, 2, 256)
    mels[:, 1, :, 12:] = 0
    lengths, no_teacher = torch.tensor([20, 12]), torch.zeros(2, 20, 0)
    f0 = torch.zeros(2, 20)
    batch = CropBatch(mels[0], lengths, voices[0], mels[1], voices[1], f0, no_teacher, *UNUSED)
    losses = module.losses(tiny_autovc, batch)
    decoder_mel, postnet_mel, codes = tiny_autovc(mels[1], voices[1], voices[0])
    again = tiny_autovc.encode(postnet_mel, batch.target_embedding)
    valid = valid_elements(batch.lengths, 20, 8)
    terms = autovc_losses(batch.target_mel, decoder_mel, postnet_mel, codes, again, valid)
    expected = terms["postnet"] + 0.5 * terms["decoder"] + 3 * terms["content"]
    torch.testing.assert_close(losses["loss"], expected)

    module.content_per_std = True
    expected += 3 * terms["content"] * (1 / losses["codes_std"] - 1)
    torch.testing.assert_close(module.losses(tiny_autovc, batch)["loss"], expected)

    valid = torch.cat([batch.target_mel[0], batch.target_mel[1, :, :12]], dim=1)
    error = (valid - 0.4).square().mean()
    torch.testing.assert_close(losses["postnet_ratio"], terms["postnet"] / error)
    valid_codes = torch.cat([codes[0], codes[1, :, :2]], dim=1)  # 12 frames: two codes of 8
    spread = valid_codes - valid_codes.mean(dim=1, keepdim=True)
    torch.testing.assert_close(losses["codes_std"], spread.square().mean().sqrt())
    torch.testing.assert_close(losses["content_ratio"], terms["content"] / spread.abs().mean())


UNUSED = torch.zeros(2, 0, 1), torch.zeros(2, 0)  # what a recogniser hears, and acoustics


class TaughtData(TrainingDataModule):
    teacher_std = torch.tensor([1.0, 2.0, 0.5])

    def __init__(self):
        LightningDataModule.__init__(self)


def test_encoder_trained_by_teacher_only(module, tiny_autovc):
    torch.manual_seed(2)
    mels, voices = torch.rand(2, 2, 80, 20), torch.rand(2, 2, 256)
    lengths, features = torch.tensor([20, 12]), torch.randn(2, 20, 3)
    f0 = torch.zeros(2, 20)
    batch = CropBatch(mels[0], lengths, voices[0], mels[1], voices[1], f0, features, *UNUSED)
    module.teacher_weight, module.content_weight = 2.0, 0.0
    trainer = Trainer(logger=False, accelerator="cpu")
    trainer.datamodule = TaughtData()
    module.trainer = trainer
    module.setup("fit")
    losses = module.losses(tiny_autovc, batch)
    codes = tiny_autovc.repeat_codes(tiny_autovc.encode(mels[1], voices[1]), 20)
    wanted = features / module.head.std
    errors = (module.head(codes).transpose(1, 2) - wanted).square()
    of_frames = torch.cat([errors[0], errors[1, :12]]).mean()
    torch.testing.assert_close(losses["teacher"], of_frames)
    unit = torch.cat([wanted[0], wanted[1, :12]]).square().mean()
    torch.testing.assert_close(losses["teacher_ratio"], of_frames / unit)
    terms = losses["postnet"] + 0.5 * losses["decoder"] + 2 * losses["teacher"]
    torch.testing.assert_close(losses["loss"], terms)
    assert not {"content", "content_ratio"} & losses.keys()

    encoder = list(tiny_autovc.encoder.parameters())
    by_both = torch.autograd.grad(losses["loss"], encoder)
    module.reconstruction_reaches_encoder = False
    by_teacher = torch.autograd.grad(module.losses(tiny_autovc, batch)["loss"], encoder)
    expected = torch.autograd.grad(2 * module.losses(tiny_autovc, batch)["teacher"], encoder)
    torch.testing.assert_close(by_teacher, expected)
    assert not torch.allclose(by_both[0], by_teacher[0])
    assert set(module.head.parameters()) < set(module.trained_parameters())


def test_untrained_encoder_is_frozen(run, tiny_checkpoint):
    before = checkpoints.load_autovc(tiny_checkpoint).state_dict()
    frozen = ("task.reconstruction_reaches_encoder=false", "task.content_weight=0")
    folder = run(*frozen, f"init_from={tiny_checkpoint}", "model.f0=false")
    for kind in ("original", "average"):
        after = weights(folder, 4, kind)[0].state_dict()
        for name, weight in before.items():
            is_same = torch.equal(weight, after[name])
            if "num_batches_tracked" not in name:
                assert is_same == name.startswith("encoder."), name


def test_head_gets_position_within_code():
    torch.manual_seed(0)
    head = TeacherHead(8, 4, torch.ones(3))
    codes = torch.ones(1, 8, 24)
    features = head(codes)[..., 4:-4]  # away from the padding
    torch.testing.assert_close(features[..., :4], features[..., 4:8])  # the same for every code
    assert not torch.allclose(features[..., :1], features[..., 1:2])


def test_resumes_exactly_with_teacher(run):
    taught = ("teacher=whisper", "task.teacher_weight=1", "task.content_weight=0")
    taught += ("task.reconstruction_reaches_encoder=false", "model.film=true")
    whole, _ = weights(run(*taught, name="whole"), 4, "average")
    half = run(*taught, "trainer.max_steps=2", name="half") / "checkpoints/last.ckpt"
    resumed, card = weights(run(*taught, f"ckpt_path={half}", name="rest"), 4, "average")
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name
    assert card.network["film"]
    content = torch.load(half, weights_only=True)
    names = {key.split(".")[0] for key in content["state_dict"]}
    assert names == {"network", "mean_mel", "align_until", "head"}


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["task.teacher_weight=1"], "there is no teacher; set teacher=whisper"),
        (["task.reconstruction_reaches_encoder=false"], "only a teacher can train a new encoder"),
        (
            ["teacher=whisper", "teacher.model=larch"],
            "teacher.model=larch: no such folder",
        ),
    ],
)
def test_refuses_missing_teacher(run, capsys, overrides, sentence):
    with pytest.raises(SystemExit) as stop:
        run(*overrides)
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(("limit", "after"), [(0.5, 0.5), (100.0, 8.0), (None, 8.0)])
def test_gradient_clipping_and_logged_norm(module, monkeypatch, limit, after):
    logged = {}
    monkeypatch.setattr(AutoVCModule, "log", lambda _, name, value: logged.update({name: value}))
    parameters = list(module.network.parameters())
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    parameters[0].grad.view(-1)[:4] = 4.0
    optimizer = torch.optim.Adam(parameters, lr=0.25)
    module.configure_gradient_clipping(optimizer, limit, None)
    assert torch.nn.utils.get_total_norm([p.grad for p in parameters]).item() == (
        pytest.approx(after, rel=1e-4)
    )
    assert logged["train/grad_norm"].item() == pytest.approx(8.0)
    assert logged["train/lr"] == 0.25


def test_frozen_modules_are_neither_averaged_nor_saved(trained):
    content = torch.load(trained / "checkpoints/last.ckpt", weights_only=True)
    names = {key.split(".")[0] for key in content["state_dict"]}
    assert names == {"network", "mean_mel", "align_until"}
    assert (
        content["callbacks"]["EMA"]["average"].keys()
        == AutoVC(**content["card"]["network"]).state_dict().keys()
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_refuses_missing_features(run, tmp_path, capsys, monkeypatch, num_workers):
    """Also if a worker of the DataLoader reads them."""
    cache = tmp_path / "vanishing"
    run(f"data.cache_dir={cache}", "trainer.max_steps=1")
    fit = VoiceDataModule.train_dataloader

    def without_mels(self):
        shutil.rmtree(self.features.files.folders["mels"])
        return fit(self)

    monkeypatch.setattr(VoiceDataModule, "train_dataloader", without_mels)
    with pytest.raises(SystemExit) as stop:
        run(f"data.cache_dir={cache}", f"data.num_workers={num_workers}", name="second")
    assert stop.value.code == 2
    errors = [e for e in capsys.readouterr().err.splitlines() if e.startswith("error: ")]
    assert len(errors) == 1
    assert "this file of the feature cache is missing" in errors[0]
    assert "Traceback" not in errors[0]


def test_finetuning_sizes_and_early_stopping(
    tiny_checkpoint, tiny_autovc, arguments, tmp_path, monkeypatch
):
    """Sizes are those of `init_from`; the learning rate is too small to improve anything."""
    more = ("experiment=finetune", f"init_from={tiny_checkpoint}", "optimizer.lr=1e-12")
    more += ("trainer.max_steps=500", "data.vtlp_factors=[]")
    line = [a for a in arguments(*more) if not a.startswith(("model.", "experiment=none"))]
    train.main(composed("train", *line))
    (folder,) = {p.parent for p in tmp_path.glob("run/checkpoints/*")}
    best = checkpoints.load_autovc(folder / "autovc_best_average.safetensors")
    assert best.arguments == tiny_autovc.arguments
    for ours, theirs in zip(best.parameters(), tiny_autovc.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    reached = torch.load(folder / "last.ckpt", weights_only=True)["global_step"]
    assert 7 * 2 <= reached < 500  # six validations without a new best, every two steps


def test_best_average_has_lowest_value(run, monkeypatch):
    """The values are given; the lowest is that of the middle step."""
    made_up = {2: 3.0, 4: 1.0, 6: 2.0}
    metrics = property(lambda trainer: {"val/loss": torch.tensor(made_up[trainer.global_step])})
    monkeypatch.setattr(Trainer, "callback_metrics", metrics)
    folder = run("checkpoint.best=val/loss", "trainer.max_steps=6", "checkpoint.every_n_steps=2")
    best = checkpoints.read_autovc(folder / "checkpoints/autovc_best_average.safetensors")
    assert best[1].step == 4
    expected = weights(folder, 4, "average")[0].state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in best[0].state_dict().items())


def test_added_f0_inputs_keep_output(tiny_autovc):
    conditioned = add_f0_conditioning(tiny_autovc).eval()
    assert conditioned.arguments == tiny_autovc.arguments | {"f0": True}
    mel, voices, harmonics = torch.rand(1, 80, 20), torch.rand(2, 1, 256), torch.rand(1, 82, 20)
    expected = tiny_autovc(mel, *voices)
    torch.testing.assert_close(conditioned(mel, *voices, harmonics), expected)


def test_f0_inputs_cannot_be_removed(run, tmp_path, tiny_checkpoint, capsys):
    run(f"init_from={tiny_checkpoint}", "trainer.max_steps=2")
    network, _ = weights(tmp_path / "run", 2, "original")
    assert network.f0
    assert network.decoder.lstm1.weight_ih_l0[:, -82:].abs().max() > 0  # trained
    path = tmp_path / "run/checkpoints/autovc_step2_average.safetensors"
    with pytest.raises(SystemExit):
        run(f"init_from={path}", "model.f0=false", f"run_dir={tmp_path / 'other'}")
    assert "has F0 inputs; set model.f0=true" in capsys.readouterr().err


def test_l1_distance(module, tiny_autovc):
    torch.manual_seed(3)
    mel, voice = torch.rand(2, 80, 16), torch.rand(2, 256)
    lengths, no_teacher = torch.tensor([16, 16]), torch.zeros(2, 16, 0)
    f0 = torch.zeros(2, 16)
    batch = CropBatch(mel, lengths, voice, mel, voice, f0, no_teacher, *UNUSED)
    module.distance = "l1"
    losses = module.losses(tiny_autovc, batch)
    decoder_mel = tiny_autovc(mel, voice, voice)[0]
    torch.testing.assert_close(losses["decoder"], (decoder_mel - mel).abs().mean())
    error = losses["decoder"] / (mel - 0.4).abs().mean()
    torch.testing.assert_close(losses["decoder_ratio"], error)
