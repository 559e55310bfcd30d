"""Base of all tasks: first weights, optimizer, schedule, logging, and the weights' card."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Generic, TypeVar

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from vc_lightning.audio.mel import require_same_settings
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.data.crops.mel import CropBatch
from vc_lightning.data.crops.vocoder import VocoderBatch
from vc_lightning.data.modules.base import TrainingDataModule
from vc_lightning.models.checkpoints import read_network
from vc_lightning.models.files.formats import Card
from vc_lightning.models.network import Network
from vc_lightning.training.lightning_types import datamodule_of

AnyBatch = CropBatch | VocoderBatch
BatchT = TypeVar("BatchT", CropBatch, VocoderBatch)
NetworkT = TypeVar("NetworkT", bound=Network)

N_FIRST_BATCHES = 16  # to which a vocoder's first output is fitted
MAX_WEIGHT = 1e6  # of a term of the loss; with a larger weight the others vanish in rounding


@dataclass(frozen=True)
class RunSettings:
    """What every task needs of a run.

    Attributes:
        card: Header of the weight files: mel settings, speaker encoder, training data.
        optimizer: Makes an optimizer from parameters.
        scheduler: Makes a schedule from an optimizer; it steps after every optimizer step.
        config: The configuration of the run, stored in `last.ckpt` and compared on resuming.
    """

    card: Card
    optimizer: Callable[..., Optimizer]
    scheduler: Callable[[Optimizer], LRScheduler]
    config: dict


class BaseModule(LightningModule, Generic[NetworkT, BatchT]):
    """A network with its optimizer and schedule.

    Subclasses set the class attributes and define the loss (`losses`) and the first weights
    (`initialize_from_data`).

    Args:
        network: The network to train.
        run: The settings of the run.

    Raises:
        InputError: This class does not train the network, or its mels differ from the card's.
    """

    trains: tuple[type[Network], ...]  # classes of network
    free_arguments: tuple[str, ...]  # of the network; may differ in the weights of `init_from`
    is_averaged = False  # whether there is an `EMA` callback
    starts_trained = False  # whether `init_from` gave the first weights

    def __init__(self, network: NetworkT, run: RunSettings):
        super().__init__()
        if not isinstance(network, self.trains):
            raise InputError(
                f"task: {type(self).__name__} does not train a network of the kind {network.kind}; "
                "experiment=wavernn selects model, task and data of a vocoder"
            )
        sizes = {"n_mels": network.arguments["n_mels"]}
        sizes |= {"hop_length": network.hop_length} if hasattr(network, "hop_length") else {}
        for name, size in sizes.items():
            if size != run.card.mel[name]:
                raise InputError(
                    f"model.{name}={size} does not match mel.{name}={run.card.mel[name]}; set "
                    f"mel.{name} only, the model follows"
                )
        self.network = network
        self.run = run
        self.card = run.card
        self.config = run.config

    # For subclasses ------------------------------------------------------------------------------

    def losses(self, network: NetworkT, batch: BatchT) -> dict[str, Tensor]:
        """Compute the loss of a batch, by the network or its moving average.

        Returns:
            `loss`, which is minimised, and further scalars to log.
        """
        raise NotImplementedError

    def initialize_from_data(self, data: TrainingDataModule) -> None:
        """Initialise the network's output to the average of the data."""
        raise NotImplementedError

    # The first weights ---------------------------------------------------------------------------

    def initialize(self, init_from: str | None, freq: int, data: TrainingDataModule) -> str:
        """Initialise the network.

        Args:
            init_from: A weight file, "shipped", or None for random weights.
            freq: `freq` of public AutoVC files, which do not hold it.
            data: The training data, after `setup`.

        Returns:
            A sentence for the log that says which weights were taken.

        Raises:
            InputError: The file is unreadable or belongs to another network.
        """
        if init_from is None:
            self.initialize_from_data(data)
            return "weights: from scratch"
        shipped = resources.weights(self.trains[0].vocoder or self.trains[0].kind)
        path = shipped if init_from == "shipped" else init_from
        name = f"init_from={init_from}"
        kinds = (network.kind for network in self.trains)
        source, source_card = read_network(path, *kinds, freq=freq)
        self.take_weights(source, source_card, name)
        self.starts_trained = True
        shown = "the shipped ones" if init_from == "shipped" else path
        return f"weights: from {shown}, step {source_card.step}, with their network"

    def take_weights(self, source: NetworkT, card: Card, name: str) -> None:
        """Begin with the weights of another network.

        Args:
            source: The network, adapted first, see `adapted`.
            card: Header of its file.
            name: What messages call it.

        Raises:
            InputError: It is another network, or its mels differ.
        """
        source = self.adapted(source, card, name)
        self.require_same_network(source, name)
        require_same_settings(card.mel, self.card.mel, name, "this training run")
        self.network.load_state_dict(source.state_dict())

    def adapted(self, source: NetworkT, card: Card, name: str) -> NetworkT:
        """Give the network of `init_from` what this one has beyond it; see `take_weights`."""
        return source

    def require_same_network(self, source: NetworkT, name: str) -> None:
        """Raise InputError if a network differs from this one; the message names the arguments."""
        if type(source) is not type(self.network):
            raise InputError(
                f"{name}: is a {source.kind}, this training run needs a {self.network.kind}"
            )
        differing = [
            f"{key} {source.arguments[key]} != {value}"
            for key, value in self.network.arguments.items()
            if key not in self.free_arguments and source.arguments[key] != value
        ]
        if differing:
            raise InputError(
                f"{name}: is another network ({', '.join(differing)}); take its sizes by "
                "model=pretrained, or train from nothing with init_from=null"
            )

    # Steps ---------------------------------------------------------------------------------------

    def trained_parameters(self) -> Iterable[nn.Parameter]:
        """List the parameters that the optimizer changes."""
        return self.network.parameters()

    def training_step(self, batch: BatchT, batch_idx: int) -> Tensor:
        """Compute and log the losses of a training batch."""
        losses = self.losses(self.network, batch)
        self.log_losses("train", losses, batch)
        return losses["loss"]

    def validation_step(self, batch: BatchT, batch_idx: int) -> None:
        """Log the losses of a validation batch as val/…, which `EMA` takes for its average."""
        split = "val_original" if self.is_averaged else "val"
        self.log_losses(split, self.losses(self.network, batch), batch)

    def log_losses(self, split: str, losses: dict[str, Tensor], batch: BatchT) -> None:
        """Log every value of `losses` as split/name, the mean over all processes."""
        values = torch.stack([value.detach() for value in losses.values()])
        training = split == "train"
        if training and self.trainer.world_size > 1:
            values = self.trainer.strategy.reduce(values, reduce_op="mean")
        named = {f"{split}/{name}": v for name, v in zip(losses, values, strict=True)}
        self.log_dict(named, batch_size=batch.size, sync_dist=not training)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients by their norm, and log it; Lightning's clipping refuses fused Adam."""
        limit = float("inf") if gradient_clip_val is None else gradient_clip_val
        norm = torch.nn.utils.clip_grad_norm_(self.trained_parameters(), limit)
        self.log("train/grad_norm", norm)
        self.log("train/lr", optimizer.param_groups[0]["lr"])

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Make the optimizer and its schedule.

        Raises:
            InputError: One of them refuses its arguments.
        """
        try:
            optimizer = self.run.optimizer(self.trained_parameters())
            scheduler = self.run.scheduler(optimizer)
        except (TypeError, ValueError) as error:
            raise InputError(f"optimizer or scheduler: {error}") from error
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    # Checkpoints ---------------------------------------------------------------------------------

    def current_card(self, weights: str) -> Card:
        """Make the card of the weights at this step; `weights` is "average" or "original"."""
        return replace(self.card, step=self.global_step, weights=weights)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Add card and configuration, so that `last.ckpt` can be read as a weight file."""
        checkpoint["card"] = asdict(self.current_card("average"))
        checkpoint["config"] = self.config

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Read old checkpoints of vocoders, whose data module was a `VoiceDataModule` too."""
        if "VoiceDataModule" in checkpoint:
            name = type(datamodule_of(self.trainer)).__qualname__
            checkpoint.setdefault(name, checkpoint["VoiceDataModule"])


def first_sound(data: TrainingDataModule) -> tuple[Tensor, Tensor]:
    """Return samples and mels of a vocoder's first batches, taken from as many epochs as needed."""
    loader = data.train_dataloader()
    batches: list[VocoderBatch] = []
    for epoch in itertools.count():
        loader.batch_sampler.set_epoch(epoch)
        batches += itertools.islice(loader, N_FIRST_BATCHES - len(batches))
        if len(batches) == N_FIRST_BATCHES:
            break
    return torch.cat([batch.wav for batch in batches]), torch.cat([batch.mel for batch in batches])
