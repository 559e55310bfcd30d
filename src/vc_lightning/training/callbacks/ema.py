"""Exponential moving average of the weights."""

import copy

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from vc_lightning.common.errors import require_within
from vc_lightning.models.network import Network
from vc_lightning.training.lightning_types import require_instance
from vc_lightning.training.tasks.base import AnyBatch, BaseModule


def ema_decay(step: int, limit: float) -> float:
    """Compute the decay of the average at a step: min(limit, (1 + step) / (10 + step)).

    Without this warm-up, at a constant 0.9999, the initial weights would still count 82 % after
    2 000 steps.

    Args:
        step: Number of optimizer steps averaged before, ≥ 0.
        limit: Largest decay.
    """
    return min(limit, (1 + step) / (10 + step))


class EMA(Callback):
    """Keeps a second network with the exponential moving average of the weights.

    After every optimizer step: averaged = decay · averaged + (1 − decay) · current, BatchNorm
    statistics included. Validation logs the losses of the averaged network as `val/…`, and
    `BaseModule` those of the trained network as `val_original/…`. Lightning's `WeightAveraging`
    would average the whole module, frozen parts included, and end with the average in place of the
    trained weights. The class name is a key in `last.ckpt` files: do not rename it.

    Args:
        decay: Upper limit of the decay, see `ema_decay`.
    """

    network: Network  # set by `setup`

    def __init__(self, decay: float):
        require_within(0, 1, "callbacks.ema", decay=decay)
        self.decay = decay
        self.steps = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the network to be averaged."""
        if not hasattr(self, "network"):
            network = require_instance(pl_module, BaseModule).network
            require_instance(pl_module, BaseModule).is_averaged = True
            self.network = copy.deepcopy(network).eval().requires_grad_(False)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the copy to the device."""
        self.network.to(pl_module.device)

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: AnyBatch,
        batch_idx: int,
    ) -> None:
        """Update the average after an optimizer step."""
        if trainer.global_step == self.steps:
            return  # gradients are being accumulated: no optimizer step was taken
        weight = 1 - ema_decay(self.steps, self.decay)
        self.steps = trainer.global_step
        current = require_instance(pl_module, BaseModule).network
        torch._foreach_lerp_(_floats(self.network), _floats(current), weight)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: AnyBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Log the averaged network's losses of a validation batch."""
        module = require_instance(pl_module, BaseModule)
        with trainer.precision_plugin.forward_context():
            module.log_losses("val", module.losses(self.network, batch), batch)

    def state_dict(self) -> dict:
        """Return the averaged weights, for `last.ckpt`."""
        return {"average": self.network.state_dict(), "steps": self.steps}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore the averaged weights."""
        self.network.load_state_dict(state_dict["average"])
        self.steps = state_dict["steps"]


def _floats(network: nn.Module) -> list[Tensor]:
    """List parameters and floating-point buffers; the others are counters."""
    buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
    return [*network.parameters(), *buffers]


def averaged_network(trainer: Trainer) -> Network:
    """Return the averaged network, or the trained one if there is no `EMA` callback."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set elsewhere in Lightning
        if isinstance(callback, EMA):
            return callback.network
    return require_instance(trainer.lightning_module, BaseModule).network
