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
        start_share: Share of the weights of `init_from` in the averaged ones, below 1. A network
            that learns from little data forgets; the mean of before and after keeps most of both
            (Wortsman et al. 2022, arXiv 2109.01903). Runs from nothing have no such share.
    """

    network: Network  # set by `setup`

    def __init__(self, decay: float, start_share: float = 0.0):
        require_within(0, 1, "callbacks.ema", decay=decay, start_share=start_share)
        self.decay = decay
        self.start_share = start_share
        self.start: list[Tensor] = []  # weights of init_from, if they have a share
        self.steps = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the network to be averaged."""
        if not hasattr(self, "network"):
            module = require_instance(pl_module, BaseModule)
            module.is_averaged = True
            self.network = copy.deepcopy(module.network).eval().requires_grad_(False)
            if module.starts_trained and self.start_share > 0:
                self.start = [weights.clone() for weights in _floats(self.network)]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the copies to the device."""
        self.network.to(pl_module.device)
        self.start = [weights.to(pl_module.device) for weights in self.start]

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
        current = _floats(require_instance(pl_module, BaseModule).network)
        if self.start:
            current = list(torch._foreach_lerp(current, self.start, self.start_share))
        torch._foreach_lerp_(_floats(self.network), current, weight)

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
        average = self.network.state_dict()
        return {"average": average, "start": self.start, "steps": self.steps}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore the averaged weights."""
        self.network.load_state_dict(state_dict["average"])
        self.start = state_dict.get("start", [])  # version 0.3.0 had none
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
