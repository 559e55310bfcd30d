"""Training Griffin-Lim's network by train.py."""

import pytest
import torch

from helpers import SOURCE, TARGET, composed
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.data.crops.vocoder import VocoderBatch
from vc_lightning.models import checkpoints
from vc_lightning.models.checkpoints import Card
from vc_lightning.models.vocoders.griffin_lim.network import GriffinLimNet
from vc_lightning.training.tasks.base import RunSettings
from vc_lightning.training.tasks.griffin_lim import GriffinLimModule


@pytest.fixture
def run(corpus, cache_dir, tmp_path):
    """Run train.py's job with a tiny network; return the folder of its files."""
    from vc_lightning.commands import train

    def run(*more, name="run"):
        settings = {
            "experiment": "griffin_lim",
            "model.dim": 8,
            "model.n_blocks": 1,
            "data.dir": corpus,
            "data.cache_dir": cache_dir,
            "data.num_workers": 0,
            "data.val_fraction": 0.34,
            "data.batch_size": 2,
            "run_dir": tmp_path / name,
            "trainer.max_steps": 30,
            "trainer.precision": "32-true",
            "trainer.val_check_interval": 15,
            "logger": "none",
        }
        given = [f"{key}={value}" for key, value in settings.items()]
        train.main(composed("train", *given, *more))
        return tmp_path / name / "checkpoints"

    return run


def test_trained_file_works_in_griffin_lim(run, tmp_path, tiny_checkpoint, mel_settings):
    from vc_lightning.commands import convert

    path = run() / "griffin_lim_step30_average.safetensors"
    state, card = checkpoints.read(path, "griffin_lim")
    assert (card.step, card.mel) == (30, mel_settings)
    assert checkpoints.load_griffin_lim(path).arguments["dim"] == 8
    assert state["output.weight"].abs().max() > 0  # initially 0
    settings = [f"ckpt={tiny_checkpoint}", f"output={tmp_path / 'a.wav'}"]
    settings += [f"vocoder.path={path}", "vocoder.n_iter=1", "vocoder=griffin_lim"]
    convert.main(composed("convert", f"source={SOURCE}", f"target={TARGET}", *settings))
    assert (tmp_path / "a.wav").is_file()


def test_training_lowers_the_loss(run, speech, mel_settings):
    folder = run("trainer.max_steps=60", "checkpoint.every_n_steps=1")
    card = Card("griffin_lim", {}, mel_settings)
    first, last = (
        checkpoints.load_griffin_lim(folder / f"griffin_lim_step{step}_original.safetensors")
        for step in (1, 60)
    )
    module = GriffinLimModule(first, RunSettings(card, None, None, {}))
    wav = torch.from_numpy(MelSpectrogram(**mel_settings).prepare(speech, 16_000))[None]
    batch = VocoderBatch(torch.zeros(1, 80, 1), wav, 1, torch.zeros(1, 1))
    with torch.no_grad():
        before, after = (module.losses(network, batch) for network in (first, last))
    assert after["loss"] < 0.98 * before["loss"]
    assert after["distance_db"] < before["distance_db"]


def test_loss_is_squared_error(mel_settings):
    torch.manual_seed(0)
    mel = MelSpectrogram(**mel_settings)
    network = GriffinLimNet(80, 513, dim=4, n_blocks=1)
    run = RunSettings(Card("griffin_lim", {}, mel_settings), None, None, {})
    module = GriffinLimModule(network, run)
    wav = 0.1 * torch.randn(2, 16_000)
    losses = module.losses(network, VocoderBatch(torch.zeros(2, 80, 1), wav, 2, torch.zeros(2, 1)))
    spectrum, target = mel.spectrum(mel(wav)), mel.log_magnitude(wav).clamp(min=0)
    torch.testing.assert_close(losses["loss"], (spectrum - target).square().mean())


def test_refuses_other_spectrum_size(mel_settings):
    network = GriffinLimNet(80, 257, dim=4, n_blocks=1)
    run = RunSettings(Card("griffin_lim", {}, mel_settings), None, None, {})
    with pytest.raises(ValueError, match=r"model\.n_bins=257: .*set model\.n_bins=513"):
        GriffinLimModule(network, run)
