"""logger=wandb and logger=mlflow: Lightning's loggers, without any server."""

import pytest
import pytorch_lightning.loggers as lightning_loggers

from helpers import composed
from vc_lightning.commands.support import loggers
from vc_lightning.common.errors import InputError


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_missing_package_is_named(name, tmp_path, monkeypatch):
    module = getattr(lightning_loggers, name)
    monkeypatch.setattr(module, f"_{name.upper()}_AVAILABLE", False)
    cfg = composed("train", f"logger={name}", f"run_dir={tmp_path}")
    with pytest.raises(InputError, match=rf"pip install 'vc-lightning\[{name}\]'"):
        loggers.build_loggers(cfg.logger)


def test_wandb_logs_offline(run, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("WANDB_CONSOLE", "off")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = run("logger=wandb", "logger.wandb.offline=true", "trainer.max_steps=2")
    (file,) = folder.rglob("*.wandb")
    content = file.read_bytes()
    assert b"train/loss" in content
    assert b"crop_frames" in content  # the configuration


def test_wandb_without_key(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    cfg = composed("train", "logger=wandb", f"run_dir={tmp_path}")
    with pytest.raises(InputError, match="logger=wandb: No API key configured"):
        loggers.log_config(*loggers.build_loggers(cfg.logger), {})


def test_mlflow_logs_to_file(run):
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    pytest.importorskip("alembic", reason="the extra mlflow is not installed")
    folder = run("logger=mlflow", "trainer.max_steps=2")
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("vc_lightning")
    (made,) = client.search_runs([experiment.experiment_id])
    assert made.info.status == "FINISHED"
    assert made.data.metrics["train/loss"] > 0
    assert made.data.params["data/crop_frames"] == "32"
