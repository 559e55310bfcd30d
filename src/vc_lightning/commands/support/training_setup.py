"""The recordings and settings that train.py and prepare.py have in common."""

import logging

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from pytorch_lightning import seed_everything

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.commands.support import builders
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError, require_seed
from vc_lightning.common.precision import best_precision
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.data.modules.base import TrainingDataModule, is_first_process
from vc_lightning.data.modules.vocoder import VocoderSettings
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import load_recogniser, read_speaker_encoder
from vc_lightning.models.network import Network


def settle(cfg: DictConfig) -> None:
    """Replace every "auto" by the best value for this machine, check types, and seed everything.

    Raises:
        InputError: A value has the wrong type.
    """
    if not is_first_process():
        logging.getLogger().setLevel(logging.ERROR)  # only the first process reports
    trainer = cfg.trainer
    if trainer.precision == "auto":
        trainer.precision = best_precision(trainer.accelerator)
    if trainer.precision == "16-mixed" and cfg.optimizer.get("fused"):
        cfg.optimizer.fused = False  # it would unscale gradients itself, after they are clipped
    if isinstance(trainer.val_check_interval, float):  # a share of an epoch
        trainer.check_val_every_n_epoch = trainer.check_val_every_n_epoch or 1
    elif trainer.check_val_every_n_epoch is not None:
        trainer.val_check_interval = 1.0  # the end of the epoch
    if trainer.sync_batchnorm == "auto":  # PyTorch has it for GPUs only
        trainer.sync_batchnorm = trainer.accelerator != "cpu" and torch.cuda.is_available()
    require_seed("seed", cfg.seed)
    builders.require_valid_types(cfg)
    seed_everything(cfg.seed, workers=True, verbose=False)


def build(cfg: DictConfig, mel: MelSpectrogram, network: Network) -> TrainingDataModule:
    """Build the data module of `data=` with all features that a network needs.

    Args:
        cfg: The composed configuration.
        mel: Makes the mels.
        network: The network to be trained.

    Raises:
        InputError: The data are for another kind of network, or a value is wrong.
    """
    encoder, card = read_speaker_encoder(cfg.speaker_encoder or resources.SPEAKER_ENCODER)
    n_embedding, dim_emb = encoder.linear.out_features, network.arguments.get("dim_emb")
    if dim_emb not in (None, n_embedding):
        raise InputError(
            f"model.dim_emb={dim_emb}: give {n_embedding}, the size of a speaker embedding"
        )
    settings = instantiate(cfg.data, _convert_="all")
    listens = isinstance(network, AutoVC) and network.listens
    if isinstance(network, AutoVC) == isinstance(settings, VocoderSettings):
        wanted = "vocoder" if not isinstance(network, AutoVC) else "folder or data=shards"
        raise InputError(
            f"data: gives no batches for a network of the kind {network.kind}; give data={wanted}"
        )
    needs = FeatureNeeds(
        mel,
        encoder,
        card.speaker_encoder,
        f0=getattr(network, "f0", False),
        teacher=instantiate(cfg.teacher) if isinstance(network, AutoVC) else None,
        recogniser=load_recogniser() if listens else None,
        acoustics=network.arguments.get("dim_acoustics", 0) > 0,
        reference=network.arguments.get("dim_reference", 0) > 0,
    )
    return settings.build(needs)
