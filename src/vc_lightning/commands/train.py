"""Train AutoVC, or a vocoder, on a folder of recordings: python train.py data.dir=FOLDER"""

import logging
import math
import os
import time
from pathlib import Path
from shlex import quote

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.accelerators import CPUAccelerator, CUDAAccelerator, MPSAccelerator

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.commands.support import builders, entry_point, loggers, paths, training_setup
from vc_lightning.common import resources
from vc_lightning.common.errors import (
    InputError,
    require_at_least,
    require_within,
)
from vc_lightning.common.threads import SECONDS, ThreadChooser
from vc_lightning.data.audit import report as audit
from vc_lightning.data.modules.base import TrainingDataModule, is_first_process
from vc_lightning.data.modules.recordings import RecordingsDataModule
from vc_lightning.models.files.formats import Card
from vc_lightning.models.network import Network
from vc_lightning.training.callbacks.throughput import DivergedError
from vc_lightning.training.checkpointing import WeightFiles
from vc_lightning.training.machine import choose_precision, keep_freed_memory
from vc_lightning.training.resume import newest, require_same_training
from vc_lightning.training.tasks.base import BaseModule, RunSettings

log = logging.getLogger("train")

ACCELERATORS = {"cpu": CPUAccelerator, "cuda": CUDAAccelerator, "mps": MPSAccelerator}
MAX_COUNT = 2**31  # of steps, epochs, batches
TRAINER_MINIMA = {
    "max_steps": -1,
    "max_epochs": -1,
    "accumulate_grad_batches": 1,
    "log_every_n_steps": 1,
    "num_sanity_val_steps": -1,
    "num_nodes": 1,
}


@hydra.main(version_base="1.3", config_path=str(resources.CONF), config_name="train")
@entry_point.reports_input_errors
def main(cfg: DictConfig) -> float | None:
    """Prepare the features, train, and log the commands that use the result.

    Returns:
        The value of `optimized_metric`, for searches; see `score`.
    """
    has_choice = cfg.trainer.precision == "auto"
    training_setup.settle(cfg)
    require_valid(cfg)
    if cfg.print_config:
        log.info("%s", OmegaConf.to_yaml(cfg, resolve=True))
    # All that may be refused is built before the features, which may take hours.
    mel, network = instantiate(cfg.mel), instantiate(cfg.model)
    data = training_setup.build(cfg, mel, network)
    files = instantiate(cfg.checkpoint)
    callbacks, own_loggers = build_callbacks(cfg), loggers.build_loggers(cfg.get("logger"))
    data.setup("fit")
    log_audit(data)
    model = build_task(cfg, mel, network, data)
    find_checkpoint(cfg, files)
    if has_choice and is_one_cpu_process(cfg.trainer):
        cfg.trainer.precision = choose_precision(model, data, cfg.ckpt_path)
    initialize(cfg, model, data)
    if cfg.compile:
        for part in network.children():
            part.compile()
    choose_threads()
    keep_freed_memory()
    made = {"callbacks": [*callbacks, files], "logger": own_loggers}
    trainer = instantiate(cfg.trainer, **made, _convert_="all")
    describe(cfg, trainer, model, has_validation=len(getattr(data, "val", ())) > 0)
    try:
        fit(trainer, model, data, cfg.ckpt_path)
    except DivergedError as error:
        if not entry_point.in_sweep():
            raise
        log.warning("%s; this counts as the worst %s", error, cfg.optimized_metric)
        return worst_score()
    finally:
        loggers.finish(trainer.loggers)
    if trainer.is_global_zero:  # the other processes may get here before last.ckpt is complete
        log_next_commands(trainer, model, files, cfg.run_dir)
    return score(cfg.optimized_metric, trainer, files)


# The configuration --------------------------------------------------------------------------------


def require_valid(cfg: DictConfig) -> None:
    """Raise InputError for values that Lightning would refuse late or with a traceback."""
    require_accelerator(cfg.trainer.accelerator)
    whole = {name: (minimum, cfg.trainer[name]) for name, minimum in TRAINER_MINIMA.items()}
    if cfg.trainer.limit_train_batches is not None:
        whole["limit_train_batches"] = 1, cfg.trainer.limit_train_batches
    if not isinstance(interval := cfg.trainer.val_check_interval, float):
        whole["val_check_interval"] = 1, interval
    elif not 0 < interval <= 1:
        raise InputError(
            f"trainer.val_check_interval={interval}: give a number of batches, or a share of an "
            "epoch up to 1.0"
        )
    for name, (minimum, value) in whole.items():
        require_at_least(minimum, "trainer", **{name: value})
        require_within(minimum, MAX_COUNT, "trainer", **{name: value})
    require_within(0, MAX_COUNT, "trainer", overfit_batches=cfg.trainer.overfit_batches)
    if cfg.trainer.gradient_clip_val is not None:
        require_within(0, float("inf"), "trainer", gradient_clip_val=cfg.trainer.gradient_clip_val)


def require_accelerator(name: str) -> None:
    """Raise InputError for a device that this machine lacks, before features are computed."""
    found = [known for known, kind in ACCELERATORS.items() if kind.is_available()]
    has_gpu = found != ["cpu"]
    if (name in ACCELERATORS and name not in found) or (name == "gpu" and not has_gpu):
        raise InputError(
            f"trainer.accelerator={name}: this machine has none; choose one of auto, "
            f"{', '.join(found)}"
        )


def is_one_cpu_process(trainer: DictConfig) -> bool:
    """Return whether the Trainer of a configuration will be a single process on a CPU."""
    on_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    on_cpu = trainer.accelerator == "cpu" or (trainer.accelerator == "auto" and not on_gpu)
    is_alone = trainer.devices in (1, "1", "auto") and trainer.num_nodes == 1
    return on_cpu and is_alone and int(os.environ.get("WORLD_SIZE", 1)) == 1


# The objects --------------------------------------------------------------------------------------


def build_callbacks(cfg: DictConfig) -> list[Callback]:
    """Build the callbacks of the group `callbacks`.

    Settings without a `_target_` are those of an experiment for a callback that `callbacks=`
    leaves out.

    Raises:
        InputError: A value is not a callback.
    """
    listed = (cfg.get("callbacks") or {}).items()
    made = {
        str(name): instantiate(one)
        for name, one in listed
        if not isinstance(one, DictConfig) or "_target_" in one
    }
    for name, callback in made.items():
        if not isinstance(callback, Callback):
            raise InputError(
                f"callbacks.{name}: is not a callback; to leave it out, give ~callbacks.{name}"
            )
    return list(made.values())


def build_task(
    cfg: DictConfig, mel: MelSpectrogram, network: Network, data: TrainingDataModule
) -> BaseModule:
    """Build the LightningModule of `task=` over the network."""
    card = Card(
        kind=network.kind,
        network=network.arguments,
        mel=mel.settings,
        speaker_encoder=data.encoder_identity,
        trained_on=str(cfg.trained_on),
        licence=str(cfg.licence),
    )
    optimizer, scheduler = instantiate(cfg.optimizer), instantiate(cfg.scheduler)
    run = RunSettings(card, optimizer, scheduler, builders.plain(cfg))
    return instantiate(cfg.task)(network=network, run=run)


def log_audit(data: TrainingDataModule) -> None:
    """Log a summary of the audit of the recordings; shards have none."""
    if isinstance(data, RecordingsDataModule) and is_first_process():
        report = audit.audit(data)
        log.info("%s", "\n".join(audit.summary(report)))


# The training run ---------------------------------------------------------------------------------


def find_checkpoint(cfg: DictConfig, files: WeightFiles) -> None:
    """Find the checkpoint of `ckpt_path`; `last` is the newest one."""
    if cfg.ckpt_path == "last":
        cfg.ckpt_path = str(newest(Path(cfg.run_dir).parent, files.dir))
        log.info("resuming %s", cfg.ckpt_path)
    elif cfg.ckpt_path is not None:
        cfg.ckpt_path = str(paths.single_path(cfg.ckpt_path, "ckpt_path"))


def initialize(cfg: DictConfig, model: BaseModule, data: TrainingDataModule) -> None:
    """Check the checkpoint to resume, or fill the network from `init_from`."""
    if cfg.ckpt_path is not None:
        require_same_training(cfg.ckpt_path, model.card, model.config)
    else:
        log.info(model.initialize(cfg.init_from, cfg.ckpt_freq, data))


def choose_threads() -> None:
    """Choose the number of threads once, as exact resuming needs the same number throughout."""
    chooser = ThreadChooser()
    if chooser.has_choice:
        time.sleep(SECONDS)  # to see what other programs do
    n_threads = chooser.choose()
    if n_threads < chooser.most:
        log.info(
            "threads: %d of %d, as other programs are busy; OMP_NUM_THREADS sets another number",
            n_threads,
            chooser.most,
        )


def describe(cfg: DictConfig, trainer: Trainer, model: BaseModule, has_validation: bool) -> None:
    """Log size, device, end and folder of the training run, and its configuration."""
    stopping = trainer.early_stopping_callback
    if stopping is not None and has_validation:
        limit = f", or at step {trainer.max_steps}" if trainer.max_steps > 0 else ""
        log.info(
            "the run ends when %s has not improved for %d validations%s",
            stopping.monitor,
            stopping.patience,
            limit,
        )
    size = sum(parameter.numel() for parameter in model.network.parameters()) / 1e6
    device = trainer.strategy.root_device
    log.info("network: %.1f M parameters on %s, precision %s", size, device, trainer.precision)
    for logger in trainer.loggers:
        loggers.log_config(logger, model.config)
    log.info("this run: %s", cfg.run_dir)


def fit(
    trainer: Trainer, model: BaseModule, data: TrainingDataModule, ckpt_path: str | None
) -> None:
    """Train; a dead process and an unknown `monitor` give one sentence, not a traceback."""
    try:
        trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error):
            raise InputError(
                "another process of this training run died or cannot be reached; its log says why. "
                "Stop all of them, then resume with ckpt_path=last.ckpt of this run and the same "
                "settings"
            ) from error
        stopping = trainer.early_stopping_callback
        if stopping is None or "Early stopping conditioned" not in str(error):
            raise
        logged = ", ".join(sorted(k for k in trainer.callback_metrics if k.startswith("val")))
        raise InputError(
            f"callbacks.early_stopping.monitor={stopping.monitor}: "
            f"is not logged; logged are {logged}"
        ) from error


def score(metric: str, trainer: Trainer, files: WeightFiles) -> float | None:
    """Return the value of a run for a search.

    Args:
        metric: Name of a logged value.
        trainer: The Trainer, after the training run.
        files: Keeps the lowest value of `checkpoint.best`.

    Returns:
        The lowest value where the run keeps its weights, else the last one; None where the metric
        is not logged and no search needs it.

    Raises:
        InputError: A search needs the metric, but it is not logged.
    """
    if metric == files.best and math.isfinite(files.best_value):
        return files.best_value
    if metric in trainer.callback_metrics:
        value = float(trainer.callback_metrics[metric])
        return worst_score() if math.isnan(value) else value
    if entry_point.in_search():
        logged = ", ".join(sorted(map(str, trainer.callback_metrics))) or "none"
        raise InputError(
            f"optimized_metric={metric}: is not logged; logged are {logged} (val/… needs held-out "
            "recordings: raise data.val_fraction)"
        )
    return None


def worst_score() -> float:
    """Return the value of a run that diverged: infinity, or −infinity for a search of a maximum."""
    is_maximum = (
        entry_point.in_search() and HydraConfig.get().sweeper.get("direction") == "maximize"
    )
    return -math.inf if is_maximum else math.inf


def log_next_commands(
    trainer: Trainer, model: BaseModule, files: WeightFiles, run_dir: str
) -> None:
    """Log the files of the training run and the commands that use them."""
    if not files.last.is_file():
        raise InputError(
            f"no step was taken after step {trainer.global_step}; raise trainer.max_steps or "
            "another limit of the training run"
        )
    best = files.path(None, "average")
    average = quote(str(best if best.exists() else files.path(trainer.global_step, "average")))
    log.info("weights: %s", files.dir)
    vocoder = model.network.vocoder
    use = f"vocoder={vocoder} vocoder.path={average}" if vocoder else f"ckpt={average}"
    log.info("convert: %s %s source=a.wav target=b.wav", resources.command("convert"), use)
    log.info(
        "resume:  %s ckpt_path=%s (and the same settings)",
        resources.command("train"),
        quote(str(files.last)),
    )
    log.info("look:    tensorboard --logdir %s", quote(run_dir))


def run() -> None:
    """Run `python train.py`, or `vc-train` where the package is installed."""
    entry_point.run(main, "train")
