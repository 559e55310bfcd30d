"""Trains AutoVC, or a vocoder, on a folder of recordings: python train.py data.dir=FOLDER"""

import logging
from pathlib import Path
from shlex import quote

import hydra
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, LightningDataModule, Trainer, seed_everything
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from vc_lightning.commands import builders, entry_point
from vc_lightning.common import resources
from vc_lightning.common.errors import (
    InputError,
    require_at_least,
    require_flag,
    require_seed,
    require_within,
)
from vc_lightning.common.precision import best_precision
from vc_lightning.data import shards
from vc_lightning.data.audit import report as doctor
from vc_lightning.data.datamodule import VoiceDataModule
from vc_lightning.models.checkpoints import Card, read_speaker_encoder
from vc_lightning.training.base_module import LitNetwork
from vc_lightning.training.checkpointing import WeightFiles
from vc_lightning.training.resume import newest, require_same_training
from vc_lightning.training.sample_logging import tensorboard_writer

log = logging.getLogger("train")

MAX_COUNT = 2**31  # of steps, epochs, batches
TRAINER_MINIMA = {
    "max_steps": -1,
    "max_epochs": -1,
    "accumulate_grad_batches": 1,
    "log_every_n_steps": 1,
    "num_sanity_val_steps": -1,
    "num_nodes": 1,
    "val_check_interval": 1,
}


@hydra.main(version_base="1.3", config_path=str(resources.CONF), config_name="train")
@entry_point.reports_input_errors
def main(cfg: DictConfig) -> None:
    """Prepares the features, trains, and says how to go on."""
    if rank_zero_only.rank != 0:
        logging.getLogger().setLevel(logging.ERROR)  # the first process speaks for all
    settle(cfg)
    require_valid(cfg)
    builders.require_valid_types(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)
    mel = instantiate(cfg.mel)
    encoder, encoder_card = read_speaker_encoder(cfg.speaker_encoder or resources.SPEAKER_ENCODER)
    identity = encoder_card.speaker_encoder
    network = instantiate(cfg.model)
    n_embedding, dim_emb = encoder.linear.out_features, network.arguments.get("dim_emb")
    if dim_emb not in (None, n_embedding):
        raise InputError(
            f"model.dim_emb={dim_emb}: the speaker encoder gives {n_embedding} numbers"
        )
    data = instantiate(
        cfg.data,
        mel=mel,
        speaker_encoder=encoder,
        encoder_identity=identity,
        with_f0=network.arguments.get("f0", False),
        teacher=instantiate(cfg.teacher),
    )
    files = instantiate(cfg.checkpoint)
    callbacks = [*made_callbacks(cfg.callbacks), files]
    logger = instantiate(cfg.logger)
    if cfg.ckpt_path == "last":
        cfg.ckpt_path = str(newest(Path(cfg.run_dir).parent, files.dir))
        log.info("resuming %s", cfg.ckpt_path)
    trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=logger, _convert_="all")
    data.trainer = trainer

    write_shards = cfg.data.get("write_shards")
    if write_shards is not None:
        shards.require_writable(write_shards)  # before the features, which may take hours
    data.setup()
    check = cfg.data.get("check")  # streamed shards have no recordings to look at
    if check is not None and rank_zero_only.rank == 0:
        see_doctor(data, trainer, cfg.run_dir)
    if check:
        return
    if write_shards is not None:
        shards.write(data, write_shards, data.shard_megabytes, data.shard_utterances)
        return
    if cfg.trainer.max_epochs > 0:
        limit_epochs(trainer, data, cfg.trainer.max_epochs)
    card = Card(
        kind=network.kind,
        network=network.arguments,
        mel=mel.settings,
        speaker_encoder=identity,
        trained_on=str(cfg.trained_on),
        licence=str(cfg.licence),
    )
    config = OmegaConf.to_container(cfg, resolve=True)
    model = instantiate(cfg.loss)(
        network=network,
        card=card,
        optimizer=instantiate(cfg.optimizer),
        scheduler=instantiate(cfg.scheduler),
        config=config,
    )
    if cfg.ckpt_path is not None:
        require_same_training(cfg.ckpt_path, card, config)
    else:
        log.info(model.begin(cfg.init_from, cfg.init_freq, data))
    if cfg.compile:
        for part in network.children():
            part.compile()
    size = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    device = trainer.strategy.root_device
    log.info("network: %.1f M parameters on %s, precision %s", size, device, trainer.precision)
    if logger:
        log_config(logger, config)
    log.info("this run: %s", cfg.run_dir)
    fit(trainer, model, data, cfg.ckpt_path)
    if trainer.is_global_zero:  # the others may be here before it has put last.ckpt in its place
        say_what_to_do_next(trainer, files, cfg.run_dir)


def made_callbacks(cfg: DictConfig) -> list[Callback]:
    """The callbacks of a configuration; InputError for what is none."""
    made = {name: instantiate(callback) for name, callback in cfg.items()}
    for name, callback in made.items():
        if not isinstance(callback, Callback):
            raise InputError(f"callbacks.{name}: is no callback; leave it out by ~callbacks.{name}")
    return list(made.values())


def log_config(logger: Logger, config: dict) -> None:
    """Writes what the run was told; a file that cannot be written is reported as such."""
    try:
        logger.log_hyperparams(config)
    except ValueError as error:  # what Lightning makes of any error
        raise error.__cause__ if isinstance(error.__cause__, OSError) else error from None


def fit(
    trainer: Trainer, model: LitNetwork, data: LightningDataModule, ckpt_path: str | None
) -> None:
    """Trains; InputError when callbacks.early_stopping waits for a value that nobody logs."""
    try:
        trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    except RuntimeError as error:
        if "Early stopping conditioned" not in str(error):
            raise
        logged = ", ".join(sorted(k for k in trainer.callback_metrics if k.startswith("val")))
        raise InputError(
            f"callbacks.early_stopping.monitor={trainer.early_stopping_callback.monitor}: "
            f"is not logged; there are {logged}"
        ) from error


def say_what_to_do_next(trainer: Trainer, files: WeightFiles, run_dir: str) -> None:
    """Names the files that the training has left and the commands that use them."""
    if not files.last.is_file():
        raise InputError(
            f"no step was taken after step {trainer.global_step}; raise trainer.max_steps or what "
            "else ends the training"
        )
    best = files.path(None, "average")
    average = quote(str(best if best.exists() else files.path(trainer.global_step, "average")))
    log.info("weights: %s", files.dir)
    use = trainer.lightning_module.convert_with + average
    log.info("convert: %s %s source=a.wav target=b.wav", resources.command("convert"), use)
    log.info(
        "resume:  %s ckpt_path=%s (and the settings of now)",
        resources.command("train"),
        quote(str(files.last)),
    )
    log.info("look:    tensorboard --logdir %s", quote(run_dir))


def see_doctor(data: VoiceDataModule, trainer: Trainer, run_dir: str) -> None:
    """Says what the recordings are like: in short, or with data.check=true at length."""
    report = doctor.diagnose(data.train, data.val, data.unusable, data.features)
    log.info("%s", doctor.table(report) if data.check else "\n".join(doctor.brief(report)))
    if data.check and (writer := tensorboard_writer(trainer)):
        doctor.write(report, writer)
        log.info("look:    tensorboard --logdir %s", quote(run_dir))


def settle(cfg: DictConfig) -> None:
    """Replaces what is "auto" by what this machine has."""
    trainer = cfg.trainer
    if trainer.precision == "auto":
        trainer.precision = best_precision(trainer.accelerator)
    if trainer.precision == "16-mixed" and cfg.optimizer.get("fused"):
        cfg.optimizer.fused = False  # it would unscale gradients itself, after they are clipped
    if trainer.sync_batchnorm == "auto":  # PyTorch has it for GPUs only
        trainer.sync_batchnorm = trainer.accelerator != "cpu" and torch.cuda.is_available()


def limit_epochs(trainer: Trainer, data: LightningDataModule, max_epochs: int) -> None:
    """Ends the training after so many epochs, which to the Trainer are one, see `sampling`."""
    n_batches = max_epochs * data.batches_per_epoch
    n_steps = -(-n_batches // trainer.accumulate_grad_batches)
    steps = trainer.max_steps
    trainer.fit_loop.epoch_loop.max_steps = n_steps if steps == -1 else min(steps, n_steps)


def require_valid(cfg: DictConfig) -> None:
    """Raises InputError for values about which Lightning would complain late or at length."""
    require_seed("seed", cfg.seed)
    require_flag("compile", cfg.compile)
    whole = {name: (minimum, cfg.trainer[name]) for name, minimum in TRAINER_MINIMA.items()}
    if cfg.trainer.limit_train_batches is not None:
        whole["limit_train_batches"] = 1, cfg.trainer.limit_train_batches
    for name, (minimum, value) in whole.items():
        require_at_least(minimum, "trainer", **{name: value})
        require_within(minimum, MAX_COUNT, "trainer", **{name: value})
    require_within(0, MAX_COUNT, "trainer", overfit_batches=cfg.trainer.overfit_batches)
    if cfg.trainer.gradient_clip_val is not None:
        require_within(0, float("inf"), "trainer", gradient_clip_val=cfg.trainer.gradient_clip_val)


def run() -> None:
    """`python train.py`, and `vc-train` where the package is installed."""
    entry_point.run(main, "train")
