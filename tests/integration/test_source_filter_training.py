"""Training the source-filter vocoder by train.py."""

import csv

import numpy as np
import pytest
import torch

from helpers import SOURCE, TARGET, composed, require_same_result
from vc_lightning.audio.files import io
from vc_lightning.common.errors import InputError
from vc_lightning.common.resources import settings
from vc_lightning.data.crops.vocoder import VocoderBatch
from vc_lightning.models import checkpoints
from vc_lightning.models.checkpoints import Card, load_recogniser
from vc_lightning.models.vocoders.source_filter.network import SourceFilter
from vc_lightning.training.discriminator import (
    SpectrogramDiscriminators,
    discriminator_loss,
    generator_losses,
)
from vc_lightning.training.tasks.base import RunSettings
from vc_lightning.training.tasks.source_filter import (
    SourceFilterModule,
    multi_resolution_loss,
    word_loss,
)


@pytest.fixture
def run(corpus, cache_dir, tmp_path):
    """Run train.py's job with tiny networks; return the folder of its files."""
    from vc_lightning.commands import train

    def run(*more, name="run"):
        settings = {
            "experiment": "source_filter",
            "model.dim": 8,
            "model.n_blocks": 1,
            "model.dim_pitch": 8,
            "model.pitch_blocks": 1,
            "task.discriminators.channels": 2,
            "task.discriminators.n_ffts": "[256]",
            "task.adversarial_after": 2,
            "data.dir": corpus,
            "data.cache_dir": cache_dir,
            "data.num_workers": 0,
            "data.val_fraction": 0.34,
            "data.batch_size": 2,
            "run_dir": tmp_path / name,
            "init_from": "null",
            "trainer.max_steps": 6,
            "trainer.precision": "32-true",
            "trainer.val_check_interval": 3,
            "trainer.log_every_n_steps": 1,
            "checkpoint.every_n_steps": 3,
            "logger": "csv",
        }
        given = [f"{key}={value}" for key, value in settings.items()]
        train.main(composed("train", *given, *more))
        return tmp_path / name / "checkpoints"

    return run


def test_trained_file_converts(run, tmp_path, tiny_checkpoint, mel_settings):
    from vc_lightning.commands import convert

    path = run() / "source_filter_step6_average.safetensors"
    network, card = checkpoints.read_network(path, "source_filter")
    assert (card.step, card.mel) == (6, mel_settings)
    assert network.head.weight.abs().max() > 0  # initially 0
    settings = [f"ckpt={tiny_checkpoint}", f"output={tmp_path / 'a.wav'}"]
    settings += ["vocoder=source_filter", f"vocoder.path={path}"]
    convert.main(composed("convert", f"source={SOURCE}", f"target={TARGET}", *settings))
    assert (tmp_path / "a.wav").is_file()


def test_resumes_exactly(run):
    whole = run(name="whole")
    last = run("trainer.max_steps=3", name="half") / "last.ckpt"
    resumed = run(f"ckpt_path={last}", name="resumed")
    require_same_result(whole.parent, resumed.parent)


def test_spectral_loss_equals_formula():
    torch.manual_seed(0)
    a, b = torch.randn(2, 1024), torch.randn(2, 1024)
    window = torch.hann_window(256)
    spectra = [torch.stft(x, 256, 64, window=window, return_complex=True).abs() for x in (a, b)]
    a_abs, b_abs = (x.numpy().clip(1e-3) for x in spectra)
    expected = np.linalg.norm(a_abs - b_abs) / np.linalg.norm(b_abs)
    expected += np.abs(np.log(a_abs) - np.log(b_abs)).mean()
    assert multi_resolution_loss(a, b, [256]).item() == pytest.approx(expected, rel=1e-4)
    assert multi_resolution_loss(a, a, [256, 64]).item() == 0


def test_recogniser_judges_the_sound(run):
    more = ("task.word_weight=3", "data.crop_frames=12", "trainer.max_steps=2")
    folder = run(*more, name="words").parent
    with next(folder.rglob("metrics.csv")).open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/words")]
    train = {name: float(value) for name, value in rows[0].items() if value}
    expected = 5 * train["train/spectral"] + 0.5 * train["train/pitch"] + 3 * train["train/words"]
    assert train["train/loss"] == pytest.approx(expected, rel=1e-5)


def test_crops_shorter_than_the_windows_are_refused(run, capsys):
    with pytest.raises(SystemExit) as stopped:
        run("data.crop_frames=5")
    assert stopped.value.code == 2
    assert "data.crop_frames=5: too short for the windows" in capsys.readouterr().err
    run("data.crop_frames=6", "trainer.max_steps=1", name="six")


def test_words_are_compared_by_the_recogniser():
    recogniser = load_recogniser().requires_grad_(False)
    wav, sample_rate = io.load(SOURCE)
    recorded = torch.from_numpy(io.resample(wav, sample_rate, 16_000)[:48_000]).reshape(2, -1)
    generated = (recorded + 0.01 * torch.randn(2, 24_000)).requires_grad_()
    loss = word_loss(recogniser, generated, recorded)
    loss.backward()
    assert 0.01 < loss.item() < 0.5
    assert generated.grad.abs().max() > 0
    assert word_loss(recogniser, recorded, recorded) == 0
    assert word_loss(recogniser, recorded.flip(1), recorded) > 1
    network = SourceFilter(80, 275, 22_050, 550, 5, 8, 1, 8, 1)
    run = RunSettings(Card("", network.arguments, settings("mel", "wavernn")), None, None, {})
    values = settings("task", "source_filter") | {"discriminators": None, "word_weight": 1}
    with pytest.raises(InputError, match=r"task\.word_weight=1.*hears sound at 16000 Hz"):
        SourceFilterModule(network, run, **values)


def test_adversarial_losses_equal_formulas():
    recorded = [[torch.full((1, 2), 2.0), torch.tensor([2.0, 0.5])]]
    generated = [[torch.full((1, 2), 1.0), torch.tensor([-2.0, 0.0])]]
    assert discriminator_loss(recorded, generated).item() == pytest.approx(0.25 + 0.5)
    score, features = generator_losses(recorded, generated)
    assert (score.item(), features.item()) == pytest.approx((1.0, 0.5))


def test_adversarial_gradients_are_separate(mel_settings):
    torch.manual_seed(0)
    network = SourceFilter(80, 256, 16_000, 512, 2, dim=8, n_blocks=1, dim_pitch=8, pitch_blocks=1)
    discriminators = SpectrogramDiscriminators([256], 2)
    weights = {"spectral_weight": 0, "pitch_weight": 0, "feature_weight": 0, "adversarial_after": 0}
    weights |= {"word_weight": 0}
    batch = VocoderBatch(torch.rand(1, 80, 12), torch.randn(1, 12 * 256), 8, torch.zeros(1, 12))

    def gradients(**more):
        card = Card("source_filter", network.arguments, mel_settings)
        module = SourceFilterModule(
            network, RunSettings(card, None, None, {}), discriminators, [256], **weights | more
        )
        module.log_losses = lambda *_: None
        module.zero_grad()
        module.training_step(batch, 0).backward()
        return [
            torch.cat([p.grad.flatten() for p in part.parameters() if p.grad is not None])
            for part in (network, discriminators)
        ]

    without, with_score = gradients(adversarial_weight=0), gradients(adversarial_weight=1)
    assert without[0].abs().max() == 0
    assert with_score[0].abs().max() > 0
    torch.testing.assert_close(without[1], with_score[1])  # not trained by the score
