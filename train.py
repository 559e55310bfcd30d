"""Trains AutoVC on a folder of recordings: python train.py data.dir=FOLDER"""

import logging
from shlex import quote

import hydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import seed_everything

from vc_lightning import cli, resources
from vc_lightning.checkpoints import Card, read_speaker_encoder
from vc_lightning.errors import InputError, require_at_least, require_seed, require_within
from vc_lightning.lit_autovc import LitAutoVC, initialize, require_same_training
from vc_lightning.precision import best_precision

log = logging.getLogger("train")

TRAINER_MINIMA = {  # Lightning's own complaints about these come late or as tracebacks
    "max_steps": -1,
    "max_epochs": -1,
    "accumulate_grad_batches": 1,
    "log_every_n_steps": 1,
    "num_sanity_val_steps": -1,
    "num_nodes": 1,
}


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
@cli.reports_input_errors
def main(cfg: DictConfig) -> None:
    """Prepares the features, trains, and says how to go on."""
    require_seed("seed", cfg.seed)
    for name, minimum in TRAINER_MINIMA.items():
        require_at_least(minimum, "trainer", **{name: cfg.trainer[name]})
    if cfg.trainer.gradient_clip_val is not None:
        require_within(0, float("inf"), "trainer", gradient_clip_val=cfg.trainer.gradient_clip_val)
    seed_everything(cfg.seed, workers=True, verbose=False)
    mel = instantiate(cfg.mel)
    encoder, encoder_card = read_speaker_encoder(cfg.speaker_encoder or resources.SPEAKER_ENCODER)
    identity = encoder_card.speaker_encoder
    network = instantiate(cfg.model)
    data = instantiate(cfg.data, mel=mel, speaker_encoder=encoder, encoder_identity=identity)
    files = instantiate(cfg.checkpoint)
    callbacks = [*(instantiate(callback) for callback in cfg.callbacks.values()), files]
    logger = instantiate(cfg.logger)
    if cfg.trainer.precision == "auto":
        cfg.trainer.precision = best_precision(cfg.trainer.accelerator)
    trainer = instantiate(cfg.trainer, callbacks=callbacks, logger=logger, _convert_="all")

    data.prepare_data()
    data.setup()
    mean_mel = data.mean_mel()
    card = Card(
        kind="autovc",
        network=network.arguments,
        mel=mel.settings,
        speaker_encoder=identity,
        trained_on=str(cfg.trained_on),
        licence=str(cfg.licence),
    )
    if cfg.ckpt_path is not None:
        require_same_training(cfg.ckpt_path, card)
    else:
        log.info(initialize(network, card, cfg.init_from, cfg.init_freq, mean_mel))
    model = LitAutoVC(
        network=network,
        card=card,
        optimizer=instantiate(cfg.optimizer),
        scheduler=instantiate(cfg.scheduler),
        mean_mel=mean_mel,
        **cfg.loss,
    )
    size = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    device = trainer.strategy.root_device
    log.info("network: %.1f M parameters on %s, precision %s", size, device, trainer.precision)
    if logger:
        logger.log_hyperparams(OmegaConf.to_container(cfg, resolve=True))
    log.info("this run: %s", cfg.run_dir)
    trainer.fit(model, data, ckpt_path=cfg.ckpt_path, weights_only=True)
    if not files.last.is_file():
        raise InputError(
            "no step was taken; raise trainer.max_steps or what else ends the training"
        )
    average = quote(str(files.path(trainer.global_step, "average")))
    log.info("weights: %s", files.dir)
    log.info("convert: python convert.py ckpt=%s source=a.wav target=b.wav", average)
    log.info(
        "resume:  python train.py ckpt_path=%s (and the settings of now)", quote(str(files.last))
    )
    log.info("look:    tensorboard --logdir %s", quote(cfg.run_dir))


if __name__ == "__main__":
    cli.run(main, "train")
