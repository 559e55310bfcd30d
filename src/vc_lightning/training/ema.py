"""What happens beside the training: averaged weights, speed, a progress bar."""

import copy
import math
import time

import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor, nn
from tqdm import tqdm

from vc_lightning.common.errors import InputError, require_within
from vc_lightning.training.base_module import AnyBatch, LitNetwork


def ema_decay(step: int, limit: float) -> float:
    """Decay of the average at `step` ≥ 0: min(limit, (1 + step) / (10 + step)).

    The warm-up lets the first weights be forgotten: at a constant 0.9999 they would still count
    82 % after 2 000 steps.
    """
    return min(limit, (1 + step) / (10 + step))


class EMA(Callback):
    """Keeps a second network whose weights are the moving average of the trained one's.

    averaged = decay · averaged + (1 − decay) · current after every optimizer step, BatchNorm's
    statistics included. Validation measures both: `val/…` is the average, `val_original/…` the
    network as it stands.

    Args:
        decay: upper limit of the decay, see `ema_decay`.
    """

    def __init__(self, decay: float):
        require_within(0, 1, "callbacks.ema", decay=decay)
        self.decay = decay
        self.network: nn.Module | None = None
        self.steps = 0

    def setup(self, trainer: Trainer, pl_module: LitNetwork, stage: str) -> None:
        if self.network is None:
            self.network = copy.deepcopy(pl_module.network).eval().requires_grad_(False)

    def on_fit_start(self, trainer: Trainer, pl_module: LitNetwork) -> None:
        self.network.to(pl_module.device)

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LitNetwork,
        outputs: object,
        batch: AnyBatch,
        batch_idx: int,
    ) -> None:
        if trainer.global_step == self.steps:
            return  # gradients are being accumulated: no optimizer step was taken
        weight = 1 - ema_decay(self.steps, self.decay)
        self.steps = trainer.global_step
        averaged, current = _floats(self.network), _floats(pl_module.network)
        torch._foreach_lerp_(averaged, current, weight)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LitNetwork,
        outputs: object,
        batch: AnyBatch,
        batch_idx: int,
    ) -> None:
        with trainer.precision_plugin.forward_context():
            pl_module.log_losses("val", pl_module.losses(self.network, batch), batch)

    def state_dict(self) -> dict:
        return {"average": self.network.state_dict(), "steps": self.steps}

    def load_state_dict(self, state_dict: dict) -> None:
        self.network.load_state_dict(state_dict["average"])
        self.steps = state_dict["steps"]


def _floats(network: nn.Module) -> list[Tensor]:
    """Parameters and the buffers that are not counters."""
    buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
    return [*network.parameters(), *buffers]


def averaged_network(trainer: Trainer) -> nn.Module:
    """The EMA callback's network, or the trained one where there is no such callback."""
    averages = [callback.network for callback in trainer.callbacks if isinstance(callback, EMA)]
    return averages[0] if averages else trainer.lightning_module.network


class Throughput(Callback):
    """Logs optimizer steps and seconds of speech per second, and stops when the loss is lost."""

    def on_train_start(self, trainer: Trainer, pl_module: LitNetwork) -> None:
        self._restart(trainer)

    def _restart(self, trainer: Trainer) -> None:
        self.since = time.perf_counter()
        self.first_step = trainer.global_step
        self.n_frames = 0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LitNetwork,
        outputs: dict,
        batch: AnyBatch,
        batch_idx: int,
    ) -> None:
        self.n_frames += batch.n_frames
        if trainer.global_step - self.first_step < trainer.log_every_n_steps:
            return
        loss = outputs["loss"].item()
        if not math.isfinite(loss):
            raise InputError(
                f"the loss is {loss} at step {trainer.global_step}; "
                "lower optimizer.lr or set trainer.precision=32"
            )
        seconds = time.perf_counter() - self.since
        mel = pl_module.card.mel
        speech = self.n_frames * mel["hop_length"] / mel["sample_rate"]
        steps = trainer.global_step - self.first_step
        pl_module.log("train/steps_per_second", steps / seconds)
        pl_module.log("train/speech_seconds_per_second", speech / seconds)
        self._restart(trainer)


class StepBar(Callback):
    """A progress bar over the whole training: steps, time left, loss and learning rate."""

    def __init__(self):
        self.bar: tqdm | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LitNetwork) -> None:
        total = trainer.estimated_stepping_batches
        self.bar = tqdm(
            total=int(total) if math.isfinite(total) else None,
            initial=trainer.global_step,
            desc="training",
            unit="step",
            dynamic_ncols=True,
            disable=not trainer.is_global_zero,
        )

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LitNetwork,
        outputs: dict,
        batch: AnyBatch,
        batch_idx: int,
    ) -> None:
        if trainer.global_step % trainer.log_every_n_steps == 0:
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            self.bar.set_postfix(
                loss=f"{outputs['loss'].item():.4f}", lr=f"{lr:.2e}", refresh=False
            )
        self.bar.update(trainer.global_step - self.bar.n)

    def teardown(self, trainer: Trainer, pl_module: LitNetwork, stage: str) -> None:
        if self.bar is not None:
            self.bar.close()
