"""What every training here has in common: optimizer, schedule, logging, the card of its weights."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from vc_lightning.audio.mel import require_same_settings
from vc_lightning.common.errors import InputError
from vc_lightning.data.crops import Batch
from vc_lightning.data.vocoder_segments import SoundBatch
from vc_lightning.models.checkpoints import Card

AnyBatch = Batch | SoundBatch


class LitNetwork(LightningModule):
    """A network, its optimizer and its schedule.

    Those below say what is learnt (`losses`) and where the weights begin (`read`, `begin_anew`).

    Args:
        network: what is trained.
        card: what its weight files will say of it (mel settings, speaker encoder, data).
        optimizer: from parameters to an optimizer; `scheduler`: from that to a schedule that
            steps after every optimizer step.
        config: what the run was told, kept in `last.ckpt` to be compared with on resuming.
    """

    trains: tuple[type[nn.Module], ...]
    shipped: Path  # the weights that come with the project
    free_arguments: tuple[str, ...]  # of the network, that are no size of its weights
    convert_with: str  # how convert.py is given a weight file

    def __init__(
        self,
        network: nn.Module,
        card: Card,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler],
        config: dict,
    ):
        super().__init__()
        if not isinstance(network, self.trains):
            raise InputError(
                f"loss: {type(self).__name__} does not train a network of the kind {network.kind}; "
                "experiment=wavernn chooses what belongs to a vocoder"
            )
        sizes = {"n_mels": network.arguments["n_mels"]}
        sizes |= {"hop_length": network.hop_length} if hasattr(network, "hop_length") else {}
        for name, size in sizes.items():
            if size != card.mel[name]:
                raise InputError(
                    f"model: the network is for mels of {name} {size}, these have "
                    f"{card.mel[name]}; leave it to mel.{name}"
                )
        self.network = network
        self.card = card
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.config = config

    def losses(self, network: nn.Module, batch: AnyBatch) -> dict[str, Tensor]:
        """What this network or its average makes of a batch: `loss`, and what else to log."""
        raise NotImplementedError

    def read(self, path: Path | str, freq: int) -> tuple[nn.Module, Card]:
        """The network in a weight file, and its card."""
        raise NotImplementedError

    def begin_anew(self, data: LightningDataModule) -> None:
        """Lets the network begin with what is common in the data."""
        raise NotImplementedError

    def begin(self, init_from: str | None, freq: int, data: LightningDataModule) -> str:
        """Fills the network from `init_from` and says with what.

        The shipped weights are taken only where they fit; a file that was asked for must fit.

        Args: freq, of public AutoVC files, which do not carry it.
        """
        if init_from is None:
            self.begin_anew(data)
            return "weights: from scratch"
        path = self.shipped if init_from == "shipped" else init_from
        name = f"init_from={path}"
        try:
            source, source_card = self.read(path, freq)
            self.require_same_network(source, name)
            require_same_settings(source_card.mel, self.card.mel, name, "this training")
        except InputError as error:
            if init_from != "shipped":
                raise
            self.begin_anew(data)
            return f"weights: from scratch; the shipped ones do not fit: {error}"
        self.adopt(source, source_card, name)
        return f"weights: from {path}, step {source_card.step}"

    def adopt(self, source: nn.Module, card: Card, name: str) -> None:
        """Takes the weights of a network that fits."""
        self.network.load_state_dict(source.state_dict())

    def require_same_network(self, source: nn.Module, name: str) -> None:
        """Raises InputError naming the sizes in which a network differs from this one."""
        if type(source) is not type(self.network):
            raise InputError(f"{name}: is a {source.kind}, this training's a {self.network.kind}")
        differing = [
            f"{key} {source.arguments[key]} != {value}"
            for key, value in self.network.arguments.items()
            if key not in self.free_arguments and source.arguments[key] != value
        ]
        if differing:
            raise InputError(f"{name}: is another network ({', '.join(differing)})")

    def trained_parameters(self) -> Iterable[nn.Parameter]:
        """What the optimizer changes."""
        return self.network.parameters()

    def training_step(self, batch: AnyBatch, batch_idx: int) -> Tensor:
        losses = self.losses(self.network, batch)
        self.log_losses("train", losses, batch)
        return losses["loss"]

    def validation_step(self, batch: AnyBatch, batch_idx: int) -> None:
        self.log_losses("val_original", self.losses(self.network, batch), batch)

    def log_losses(self, split: str, losses: dict[str, Tensor], batch: AnyBatch) -> None:
        """Logs every value of `losses` as split/name, the mean over all processes."""
        values = torch.stack([value.detach() for value in losses.values()])
        training = split == "train"
        if training and self.trainer.world_size > 1:
            values = self.trainer.strategy.reduce(values, reduce_op="mean")
        named = {f"{split}/{name}": v for name, v in zip(losses, values, strict=True)}
        self.log_dict(named, batch_size=len(batch.mel), sync_dist=not training)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None,
        gradient_clip_algorithm: str | None,
    ) -> None:
        """Clips by the norm that is logged; Lightning's own refuses Adam's fused form."""
        limit = float("inf") if gradient_clip_val is None else gradient_clip_val
        norm = torch.nn.utils.clip_grad_norm_(self.trained_parameters(), limit)
        self.log("train/grad_norm", norm)
        self.log("train/lr", optimizer.param_groups[0]["lr"])

    def configure_optimizers(self) -> dict:
        try:
            optimizer = self.make_optimizer(self.trained_parameters())
            schedule = {"scheduler": self.make_scheduler(optimizer), "interval": "step"}
        except (TypeError, ValueError) as error:
            raise InputError(f"optimizer or scheduler: {error}") from error
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def current_card(self, weights: str) -> Card:
        """The card of the weights as they are now."""
        return replace(self.card, step=self.global_step, weights=weights)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Lets `last.ckpt` be read like any other weight file, and compared with on resuming."""
        checkpoint["card"] = asdict(self.current_card("average"))
        checkpoint["config"] = self.config
