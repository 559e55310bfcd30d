"""Sweeps and searches of train.py, as a person types them."""

import csv
import importlib
import math
import sys

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from pytorch_lightning import Callback

from vc_lightning.commands.support import entry_point


class CountEpochs(Callback):
    """A user's own callback; it writes its argument where the test finds it."""

    def __init__(self, path: str):
        self.path = path

    def on_train_start(self, trainer, pl_module):
        with open(self.path, "a") as file:  # noqa: PTH123
            file.write("called\n")


@pytest.fixture
def sweep(arguments, tmp_path, monkeypatch, capfd):
    """Run `train.py` with a tiny network and more arguments; return exit code and stderr."""

    def sweep(*more):
        monkeypatch.chdir(tmp_path)
        own = [argument for argument in arguments() if not argument.startswith("run_dir=")]
        monkeypatch.setattr("sys.argv", ["train.py", *own, "hydra.sweep.dir=jobs", *more])
        monkeypatch.setattr(entry_point, "failed_jobs", [])
        monkeypatch.setattr(entry_point, "swept_keys", set())
        try:
            importlib.import_module("vc_lightning.commands.train").run()
            code = 0
        except SystemExit as end:
            code = end.code
        finally:
            GlobalHydra.instance().clear()
            HydraConfig.instance().cfg = None
        return code, capfd.readouterr().err

    return sweep


def ended(tmp_path):
    return sorted(path.parts[-3] for path in tmp_path.glob("jobs/*/checkpoints/last.ckpt"))


def test_failed_job_is_reported_and_next_one_runs(sweep, tmp_path):
    code, reported = sweep("-m", "model.freq=8,0,4", "trainer.max_steps=2")
    assert code == entry_point.EXIT_SOME_FAILED
    assert "error: job 1 (model.freq=0): model.freq=0: give an integer of at least 1" in reported
    assert reported.endswith(
        "error: these jobs failed: 1 (model.freq=0); the messages above say why\n"
    )
    assert ended(tmp_path) == ["0", "2"]


def test_list_of_folders_is_a_sweep(sweep, corpus, tmp_path):
    other = tmp_path / "one, two"
    other.symlink_to(corpus)
    code, reported = sweep("-m", f"data.dir={corpus},'{other}'", "trainer.max_steps=1")
    assert code == 0, reported
    assert ended(tmp_path) == ["0", "1"]


def test_optuna_searches(sweep, tmp_path):
    """Four trials, of which one diverges; the best value is the lowest validation loss."""
    pytest.importorskip("optuna", reason="the extra search is not installed")
    code, reported = sweep(
        *("hparams_search=optuna", "hydra.sweeper.n_trials=4", "hydra.sweeper.sampler.seed=3"),
        *("data.batch_size=2", "optimizer.lr=choice(1e-3,1e-2,1e30)"),
        *("checkpoint.best=val/loss", "trainer.gradient_clip_val=null"),
    )
    assert code == 0, reported
    found = yaml.safe_load((tmp_path / "jobs/optimization_results.yaml").read_text())
    values = {}
    for number in range(4):
        settings = yaml.safe_load((tmp_path / f"jobs/{number}/.hydra/config.yaml").read_text())
        with (tmp_path / f"jobs/{number}/csv/metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        losses = [float(row["val/loss"]) for row in rows if row.get("val/loss")]
        losses = [loss for loss in losses if math.isfinite(loss)]
        values[settings["optimizer"]["lr"]] = min(losses, default=math.inf)
    assert len(values) > 1
    assert found["best_value"] == pytest.approx(min(values.values()))
    assert math.isfinite(found["best_value"])


def test_search_needs_its_metric(sweep):
    pytest.importorskip("optuna", reason="the extra search is not installed")
    code, reported = sweep(
        *("hparams_search=optuna", "hydra.sweeper.n_trials=1", "optimized_metric=val/los"),
        "trainer.max_steps=1",
    )
    assert code == entry_point.EXIT_SOME_FAILED
    assert "optimized_metric=val/los: is not logged; logged are " in reported


def test_own_callback(sweep, tmp_path):
    path = tmp_path / "calls.txt"
    sys.modules.setdefault("test_sweeps", sys.modules[__name__])
    code, reported = sweep(
        "callbacks.mine._target_=test_sweeps.CountEpochs",
        f"callbacks.mine.path={path}",
        "hydra.run.dir=single",
    )
    assert code == 0, reported
    assert path.read_text() == "called\n"
