import math
import shlex

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from helpers import SOURCE, TARGET, composed, require_same_result
from vc_lightning.data.crops.vocoder import VocoderBatch
from vc_lightning.models import checkpoints
from vc_lightning.models.checkpoints import Card
from vc_lightning.models.vocoders.wavernn.distributions import mu_law_decode, mu_law_encode
from vc_lightning.models.vocoders.wavernn.multiband import MultiBandWaveRNN
from vc_lightning.models.vocoders.wavernn.network import WaveRNN
from vc_lightning.training.schedulers import noam
from vc_lightning.training.tasks.base import RunSettings
from vc_lightning.training.tasks.wavernn import WaveRNNModule

MODELS = {
    "wavernn_multiband": ["frame_dims=8", "frame_blocks=1", "rnn_dims=8", "fc_dims=8"],
    "wavernn": ["rnn_dims=8", "fc_dims=8", "compute_dims=4", "res_out_dims=8", "res_blocks=1"],
}


@pytest.fixture
def run(corpus, cache_dir, tmp_path):
    """Run train.py's job with a tiny vocoder; return the run's folder."""
    from vc_lightning.commands import train

    def run(*more, model="wavernn_multiband", name="run"):
        settings = {
            "experiment": "wavernn",
            "model": model,
            "data.dir": corpus,
            "data.cache_dir": cache_dir,
            "data.num_workers": 0,
            "data.val_fraction": 0.34,
            "data.batch_size": 2,
            "data.crop_frames": 2,
            "run_dir": tmp_path / name,
            "init_from": "null",
            "trainer.max_steps": 4,
            "trainer.precision": "32-true",
            "trainer.val_check_interval": 2,
            "trainer.log_every_n_steps": 1,
            "logger": "csv",
            "callbacks.samples.every_n_steps": 1000,
            "callbacks.samples.max_frames": 4,
            "checkpoint.every_n_steps": 2,
        }
        tiny = [f"model.{size}" for size in MODELS[model]]
        given = [f"{key}={value}" for key, value in settings.items()]
        train.main(composed("train", *given, *tiny, *more))
        return tmp_path / name

    return run


def weights(folder, step, kind):
    path = folder / f"checkpoints/wavernn_step{step}_{kind}.safetensors"
    return checkpoints.read_network(path, "wavernn", "multiband_wavernn")


@pytest.mark.parametrize(
    ("model", "network"), [("wavernn_multiband", MultiBandWaveRNN), ("wavernn", WaveRNN)]
)
def test_trains_vocoder_on_folder(run, model, network, mel_settings, tmp_path, caplog, capsys):
    with caplog.at_level("INFO", "train"):
        folder = run("logger=tensorboard", model=model)
    original, card = weights(folder, 4, "original")
    average, _ = weights(folder, 4, "average")
    assert type(original) is network
    assert card.step == 4
    assert card.mel == original.mel_settings == mel_settings
    assert not torch.equal(original.fc1.weight, average.fc1.weight)
    assert average.generate(torch.rand(1, 80, 3)).shape == (1, 768)
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    assert {"train/loss", "val/loss", "val_original/loss"} <= set(events.Tags()["scalars"])
    assert len(events.Tags()["images"]) == len(events.Tags()["audio"]) == 2  # a man and a woman
    assert "vocoder=wavernn vocoder.path=" in caplog.text


def test_trained_vocoder_converts(run, tmp_path, tiny_checkpoint):
    from vc_lightning.commands import convert

    folder = run()
    path = folder / "checkpoints/wavernn_step4_average.safetensors"
    settings = [f"ckpt={tiny_checkpoint}", f"vocoder.path={path}", f"output={tmp_path / 'a.wav'}"]
    convert.main(
        composed("convert", "vocoder=wavernn", f"source={SOURCE}", f"target={TARGET}", *settings)
    )
    assert (tmp_path / "a.wav").is_file()


@pytest.mark.parametrize("model", MODELS)
def test_resumes_exactly(run, model):
    whole = run(model=model, name="whole")
    first = run("trainer.max_steps=3", model=model, name="first")
    rest = run(f"ckpt_path={first}/checkpoints/last.ckpt", model=model, name="rest")
    require_same_result(whole, rest)


def test_resumes_checkpoint_of_version_0_1(run):
    """In version 0.1 the data module of vocoders was VoiceDataModule."""
    last = run("trainer.max_steps=3", name="first") / "checkpoints/last.ckpt"
    content = torch.load(last, weights_only=True)
    content["VoiceDataModule"] = content.pop("VocoderDataModule")
    content["config"]["data"]["_target_"] = "vc_lightning.data.VoiceDataModule"
    torch.save(content, last)
    rest = run(f"ckpt_path={last}", name="rest")
    require_same_result(run(name="whole"), rest)


def test_init_from_vocoder_weights(run, caplog):
    folder = run()
    path = folder / "checkpoints/wavernn_step4_average.safetensors"
    run(f"init_from={path}", "optimizer.lr=1e-12", "model.temperature=0.5", name="next")
    next_one, card = weights(folder.parent / "next", 4, "original")
    before, _ = checkpoints.read_network(path, "wavernn", "multiband_wavernn")
    torch.testing.assert_close(next_one.fc1.weight, before.fc1.weight)
    assert next_one.temperature == 0.5
    assert card.step == 4


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["model.rnn_dims=9"], "is another network (rnn_dims 8 != 9)"),
        (["mel.fmin=40"], "fmin 90 != 40"),
    ],
)
def test_refuses_mismatched_weights(run, capsys, overrides, reason):
    path = run() / "checkpoints/wavernn_step4_average.safetensors"
    with pytest.raises(SystemExit) as stop:
        run(f"init_from={path}", *overrides, name="next")
    assert stop.value.code == 2
    assert reason in capsys.readouterr().err


def test_refuses_task_of_other_network(run, capsys):
    with pytest.raises(SystemExit) as stop:
        run("task=autovc")
    assert stop.value.code == 2
    assert "AutoVCModule does not train a network of the kind multiband" in capsys.readouterr().err


@pytest.mark.parametrize("model", MODELS)
def test_refuses_init_from_autovc(run, tiny_checkpoint, capsys, model):
    with pytest.raises(SystemExit) as stop:
        run(f"init_from={tiny_checkpoint}", model=model)
    assert stop.value.code == 2
    assert "holds autovc weights" in capsys.readouterr().err


def tiny_public(mode):
    torch.manual_seed(0)
    return WaveRNN(mode, 6, 5, (2, 3), 2, 8, 8, 8, 8, 1)


@pytest.mark.parametrize("mode", ["RAW", "MOL"])
def test_log_prob_excludes_context(mode):
    network = tiny_public(mode).eval()
    wav, mel = 0.3 * torch.randn(3, 8 * 6).clamp(-3, 3), torch.rand(3, 5, 8)
    inner = wav[:, 12:-12]
    log_prob = network.log_prob(wav, mel)
    assert log_prob.shape == inner.shape
    for t in range(inner.shape[1]):
        past = torch.zeros(3, inner.shape[1])
        if mode == "MOL":
            past[:, 1 : t + 1] = inner[:, :t]
            weights, means, log_scales = network(past, mel)[:, t].chunk(3, dim=-1)
            edges = [
                torch.sigmoid((inner[:, t, None] + side / 65_535 - means) / log_scales.exp())
                for side in (-1, 1)
            ]
            mass = (weights.softmax(-1) * (edges[1] - edges[0])).sum(-1)
            torch.testing.assert_close(log_prob[:, t], mass.log(), atol=0.02, rtol=0)
        else:
            classes = mu_law_encode(inner, 64)
            past[:, 1 : t + 1] = 2 * classes[:, :t] / 63 - 1
            expected = network(past, mel)[:, t].log_softmax(-1)
            chosen = expected.gather(1, classes[:, t : t + 1])[:, 0]
            torch.testing.assert_close(log_prob[:, t], chosen)


@pytest.mark.parametrize("mode", ["RAW", "MOL"])
def test_initialized_output_raises_log_prob(mode):
    network = tiny_public(mode).requires_grad_(False)
    wav = mu_law_decode(torch.randint(20, 44, (4, 48)), 64)
    mel = torch.rand(4, 5, 8)
    before = network.log_prob(wav, mel).mean()
    network.initialize_output(wav, mel)
    after = network.log_prob(wav, mel).mean()
    assert after > before + 0.3
    if mode == "RAW":
        assert after.item() == pytest.approx(-math.log(24), abs=0.2)  # 24 equally likely classes


def test_loss_is_in_bits_per_sample():
    network = tiny_public("RAW")
    mel = {"n_mels": 5, "hop_length": network.hop_length}
    card = Card("wavernn", network.arguments, mel)
    run = RunSettings(card, torch.optim.Adam, lambda o: noam(o, 10), {})
    module = WaveRNNModule(network, run)
    batch = VocoderBatch(torch.rand(2, 5, 8), torch.rand(2, 48) - 0.5, 8, torch.zeros(2, 8))
    loss = module.losses(network, batch)["loss"]
    expected = -network.log_prob(batch.wav, batch.mel).mean() / math.log(2)
    assert loss.item() == pytest.approx(expected.item())


def test_suggested_command_works(run, caplog):
    with caplog.at_level("INFO", "train"):
        run()
    (line,) = [line for line in caplog.messages if line.startswith("convert:")]
    assert shlex.split(line)[1:4] == ["python", "convert.py", "vocoder=wavernn"]
