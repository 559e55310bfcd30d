"""Interrupted, killed and resumed training runs give the result of an uninterrupted one."""

import csv
import os
import random
import resource
import signal
import sys
import time

import pytest
import torch
from pytorch_lightning import Callback, Trainer

from helpers import command, require_equal, require_same_result, state, weights
from vc_lightning.commands.support import training_setup
from vc_lightning.common.errors import InputError
from vc_lightning.models import checkpoints
from vc_lightning.training import machine
from vc_lightning.training.checkpointing import WeightFiles
from vc_lightning.training.resume import changed_keys, newest


def logged(folder):
    """Read all logged values by step and name, except speeds."""
    with (folder / "csv/metrics.csv").open() as file:
        return {
            (int(row["step"]), name): value
            for row in csv.DictReader(file)
            for name, value in row.items()
            if value and name != "step" and "per_second" not in name
        }


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["data.num_workers=2", "data.vtlp_factors=[0.9]", "data.sampling=speaker"],
        ["trainer.accumulate_grad_batches=2", "data.batch_size=1"],
        ["trainer.max_steps=-1", "trainer.max_epochs=3"],
        [
            *("trainer.check_val_every_n_epoch=1", "checkpoint.resume_every_n_steps=1"),
            "checkpoint.best=val/loss",
        ],
    ],
)
def test_resuming_is_exact(run, more):
    more = ["checkpoint.every_n_steps=1", "trainer.max_steps=6", *more]
    whole = run(*more, name="whole")
    for step in (1, 2, 3):  # two batches are an epoch
        first = run(*more, f"trainer.max_steps={step}", name=f"first{step}")
        last = f"ckpt_path={first}/checkpoints/last.ckpt"
        resumed = run(*more, last, name=f"resumed{step}")
        require_same_result(whole, resumed)
        assert logged(resumed).items() <= logged(whole).items()
        assert {key for key in logged(whole) if key[0] >= step} == logged(resumed).keys()
        networks = [weights(folder, 6, "average")[0].state_dict() for folder in (whole, resumed)]
        require_equal(*networks)


class Epochs(Callback):
    """A user's own callback; its state is in every checkpoint."""

    def __init__(self):
        self.calls = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.calls.append(f"start {trainer.current_epoch}")

    def on_train_epoch_end(self, trainer, pl_module):
        self.calls.append(f"end {trainer.current_epoch} at {trainer.global_step}")

    def on_validation_epoch_end(self, trainer, pl_module):
        self.calls.append(f"validation at {trainer.global_step}")

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state_dict):
        self.calls = state_dict["calls"]


OWN = "+callbacks.mine._target_=test_resume.Epochs"


def calls(folder):
    return next(v["calls"] for k, v in state(folder)["callbacks"].items() if "Epochs" in k)


def test_epochs_are_passes_over_the_recordings(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "test_resume", sys.modules[__name__])
    every = ["trainer.check_val_every_n_epoch=2"]
    folder = run(OWN, *every, "trainer.max_steps=-1", "trainer.max_epochs=4")
    assert calls(folder) == [
        *("start 0", "end 0 at 2", "start 1", "validation at 4", "end 1 at 4"),
        *("start 2", "end 2 at 6", "start 3", "validation at 8", "end 3 at 8"),
    ]


@pytest.mark.parametrize("step", [2, 3])  # the end of an epoch, and its middle
def test_own_callback_continues(run, monkeypatch, step):
    """As if there had been no interruption: no epoch and no validation is missing or repeated."""
    monkeypatch.setitem(sys.modules, "test_resume", sys.modules[__name__])
    kill = WeightFiles.on_train_batch_end

    def killed(self, trainer, *arguments):
        if trainer.global_step == step + 1 and trainer.ckpt_path is None and "cut" in str(self.dir):
            raise ZeroDivisionError  # last.ckpt is that of `step`
        kill(self, trainer, *arguments)

    monkeypatch.setattr(WeightFiles, "on_train_batch_end", killed)
    more = [OWN, "checkpoint.resume_every_n_steps=1", "trainer.max_steps=7"]
    whole = run(*more, name="whole")
    with pytest.raises(ZeroDivisionError):
        run(*more, name="cut")
    last = state(folder := whole.with_name("cut"))
    assert last["global_step"] == step
    resumed = run(*more, f"ckpt_path={folder}/checkpoints/last.ckpt", name="resumed")
    assert calls(resumed) == calls(whole)
    require_same_result(whole, resumed)


@pytest.mark.timeout(900)  # five processes that are killed, on a busy machine
def test_resuming_after_kills_is_exact(arguments, run, tmp_path):
    more = ["trainer.max_steps=60", "checkpoint.every_n_steps=50"]
    more += ["checkpoint.resume_every_n_steps=3", "callbacks.samples.every_n_steps=7"]
    whole = run(*more, name="whole")
    rng = random.Random(0)
    last = tmp_path / "runs/killed/checkpoints/last.ckpt"
    line = arguments(*more, f"run_dir={tmp_path}/runs/killed")
    for resume in ([], ["ckpt_path=last"]):
        before = last.stat().st_mtime_ns if last.exists() else 0
        process = command(*line, *resume, wait=False)
        while not (last.exists() and last.stat().st_mtime_ns > before):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert 0 < state(tmp_path / "runs/killed")["global_step"] < 60
    resumed = run(*more, "ckpt_path=last", f"run_dir={tmp_path}/runs/end", name="runs/end")
    require_same_result(whole, resumed)
    assert logged(resumed).items() <= logged(whole).items()


def test_finished_training_writes_lost_weights(run):
    """The program was killed at the end, between last.ckpt and the weights of its step."""
    whole = run("trainer.max_steps=2", name="whole")
    kept = {}
    for path in sorted((whole / "checkpoints").glob("*_step2_*.safetensors")):
        kept[path] = checkpoints.load_autovc(path).state_dict()
        path.unlink()
    assert len(kept) == 2
    run("trainer.max_steps=2", f"ckpt_path={whole}/checkpoints/last.ckpt", name="whole")
    for path, state_dict in kept.items():
        require_equal(checkpoints.load_autovc(path).state_dict(), state_dict)


def test_restores_signal_handlers(run):
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    run()
    assert [signal.getsignal(number) for number in numbers] == before
    with pytest.raises(SystemExit):
        run("checkpoint.best=val/x")  # ends by an error during the run
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_save_and_stop(arguments, tmp_path, number):
    """Terminals and clusters send signals to every process, DataLoader workers included."""
    process = command(
        *arguments("trainer.max_steps=100000", "checkpoint.every_n_steps=5", "data.num_workers=2"),
        wait=False,
    )
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    while not checkpoint.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"interrupted; resume with ckpt_path={checkpoint}" in output
    assert "Traceback" not in output
    step = state(tmp_path / "run")["global_step"]
    assert step >= 5
    assert checkpoints.read(checkpoint, "autovc")[1].step == step
    assert weights(tmp_path / "run", step, "average")[1].step == step


def test_full_disk_skips_checkpoint(run, monkeypatch, caplog, tmp_path):
    """A limit on the size of files simulates a full disk; Python ignores SIGXFSZ."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    save, steps = WeightFiles.save, []

    def save_with_little_space(self, trainer, **options):
        full = trainer.global_step in (4, 6)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000 if full else limits[0], limits[1]))
        try:
            save(self, trainer, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            steps.append((trainer.global_step, state(tmp_path / "run")["global_step"]))
            assert not (tmp_path / "run/checkpoints/.last.ckpt").exists()

    monkeypatch.setattr(WeightFiles, "save", save_with_little_space)
    folder = run("trainer.max_steps=8")
    assert steps[:4] == [(2, 2), (4, 2), (6, 2), (8, 8)]
    assert caplog.text.count("could not be saved") == 2
    names = {path.name for path in (folder / "checkpoints").iterdir()}
    kinds = ("average", "original")
    assert names == {"last.ckpt"} | {
        f"autovc_step{s}_{k}.safetensors" for s in (2, 8) for k in kinds
    }


@pytest.mark.parametrize(
    ("owner", "name", "file"),
    [
        (checkpoints, "save", "autovc_step2_original.safetensors: File too large"),
        (Trainer, "save_checkpoint", "last.ckpt: File too large"),
    ],
)
def test_full_disk_at_the_end_is_one_sentence(
    run, monkeypatch, capsys, tmp_path, owner, name, file
):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    save = getattr(owner, name)

    def save_with_little_space(*arguments, **options):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
        try:
            save(*arguments, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(owner, name, save_with_little_space)
    with pytest.raises(SystemExit, match="2"):
        run("trainer.max_steps=2", "logger=none", "checkpoint.every_n_steps=1000")
    folder = tmp_path / "run/checkpoints"
    assert f"error: {folder}/{file}\n" in capsys.readouterr().err
    assert list(folder.glob(".*")) == []


def test_retries_failed_last_checkpoint(run, monkeypatch):
    save, steps = Trainer.save_checkpoint, []

    def fails_once(self, *arguments, **options):
        steps.append(self.global_step)
        if steps == [2, 4]:
            raise OSError("no space left")
        save(self, *arguments, **options)

    monkeypatch.setattr(Trainer, "save_checkpoint", fails_once)
    assert state(run())["global_step"] == 4
    assert steps == [2, 4, 4]


def test_retries_failed_last_weights(run, monkeypatch):
    save, steps = checkpoints.save, []

    def fails_once(path, state, card):
        steps.append(card.step)
        if steps == [2, 2, 4]:
            raise OSError("no space left")
        return save(path, state, card)

    monkeypatch.setattr(checkpoints, "save", fails_once)
    folder = run()
    assert state(folder)["global_step"] == 4
    assert [weights(folder, 4, kind)[1].step for kind in ("average", "original")] == [4, 4]


def test_failed_final_save_is_an_error(run, monkeypatch):
    def fails(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(Trainer, "save_checkpoint", fails)
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 2


def test_resumes_average(run, trained):
    last = trained / "checkpoints/last.ckpt"
    resumed = run(f"ckpt_path={last}", "trainer.max_steps=5", name="resumed")
    before, after = weights(trained, 4, "average")[0], weights(resumed, 5, "average")[0]
    stepped = weights(resumed, 5, "original")[0]
    decay = 5 / 14
    for old, new, current in zip(
        before.parameters(), after.parameters(), stepped.parameters(), strict=True
    ):
        torch.testing.assert_close(new, decay * old + (1 - decay) * current)


def test_finds_newest_run(tmp_path):
    with pytest.raises(InputError, match="no run below"):
        newest(tmp_path, tmp_path / "mine")
    for index, name in enumerate(["a", "b", "c"]):
        path = tmp_path / name / "checkpoints/last.ckpt"
        path.parent.mkdir(parents=True)
        path.touch()
        (tmp_path / name / "newer.txt").touch()
        time.sleep(0.01 * index)
    (tmp_path / "a/checkpoints/last.ckpt").write_bytes(b"")  # written once more
    assert newest(tmp_path, tmp_path / "mine") == tmp_path / "a/checkpoints/last.ckpt"
    (tmp_path / "mine").mkdir()
    time.sleep(0.01)
    (tmp_path / "mine/last.ckpt").touch()
    assert newest(tmp_path, tmp_path / "mine") == tmp_path / "mine/last.ckpt"


def test_lists_changed_keys():
    before = {
        "run_dir": "a",
        "data": {"batch_size": 2, "vtlp_factors": []},
        "seed": 1,
        "optimizer": {},
    }
    now = {
        "run_dir": "b",
        "data": {"batch_size": 4, "vtlp_factors": [0.9]},
        "seed": 1,
        "optimizer": {},
    }
    assert dict(changed_keys(before, now)) == {
        "data.batch_size": (2, 4),
        "data.vtlp_factors": ([], [0.9]),
    }
    assert dict(changed_keys({"task": {"a": 1}}, {"task": {"b": 1}})) == {
        "task.a": (1, None),
        "task.b": (None, 1),
    }


def test_changed_data_start_new_epoch(run, caplog):
    last = run("trainer.max_steps=3", name="first") / "checkpoints/last.ckpt"
    assert state(run(f"ckpt_path={last}", name="same"))["VoiceDataModule"]["batches"] == 4
    assert "resuming with another" not in caplog.text
    run(f"ckpt_path={last}", "data.batch_size=1", "task.content_weight=2", name="other")
    assert "resuming with another data.batch_size: 1, was 2" in caplog.text
    assert "resuming with another task.content_weight: 2, was 1.0" in caplog.text
    assert "a new epoch begins" in caplog.text


def test_resumes_although_modules_have_moved(run, caplog):
    last = run("data=augmented", "trainer.max_steps=2", name="first") / "checkpoints/last.ckpt"
    content = torch.load(last, weights_only=True)
    scheduler, gain = content["config"]["scheduler"], content["config"]["data"]["augmentations"][0]
    scheduler["_target_"] = "vc_lightning.schedulers.noam"
    gain["_target_"] = "vc_lightning.augmentations.Gain"
    torch.save(content, last)
    folder = run("data=augmented", f"ckpt_path={last}", name="second")
    assert "resuming with another" not in caplog.text
    assert state(folder)["global_step"] == 4
    content["config"]["task"]["content_weight"] = 7
    torch.save(content, last)
    run("data=augmented", f"ckpt_path={last}", name="other")
    assert "resuming with another task.content_weight: 1.0, was 7" in caplog.text
    gain["_target_"] = "elsewhere.Gain"
    torch.save(content, last)
    run("data=augmented", f"ckpt_path={last}", name="third")
    assert "resuming with another data.augmentations" in caplog.text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("model.dim_pre=17", "its network is"),
        ("mel.gain=0.9", "its mel is"),
        ("optimizer.lr=1e-4", "optimizer.lr was 0.001 and is 0.0001 now"),
        ("scheduler.warmup=30", "scheduler.warmup was 20 and is 30 now"),
    ],
)
def test_refuses_changed_optimizer_settings(run, trained, capsys, change, reason):
    last = trained / "checkpoints/last.ckpt"
    with pytest.raises(SystemExit) as stop:
        run(f"ckpt_path={last}", change)
    assert stop.value.code == 2
    assert reason in capsys.readouterr().err


def test_refuses_to_resume_weight_file(run, trained, capsys):
    with pytest.raises(SystemExit) as stop:
        run(f"ckpt_path={trained}/checkpoints/autovc_step4_average.safetensors")
    assert stop.value.code == 2
    assert "holds weights only" in capsys.readouterr().err


def test_checkpoint_stores_measured_precision(run, monkeypatch, caplog):
    """Float32 wins the first measurement; the resumed run measures nothing."""
    figures = iter([{"bf16-mixed": 0.2, "32-true": 0.1}])
    monkeypatch.setattr(training_setup, "best_precision", lambda _: "bf16-mixed")
    monkeypatch.setattr(machine, "measure_steps", lambda *_: next(figures))
    folder = run("trainer.precision=auto", "trainer.max_steps=2")
    last = folder / "checkpoints" / "last.ckpt"
    caplog.set_level("INFO")
    run("trainer.precision=auto", "trainer.max_steps=3", f"ckpt_path={last}", name="resumed")
    assert "precision 32-true" in caplog.text
    assert "resuming with another" not in caplog.text
    assert checkpoints.read_training(last)[1]["trainer"]["precision"] == "32-true"
