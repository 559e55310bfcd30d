"""Choose the precision of a training on a CPU, where bfloat16 is not always faster."""

import copy
import logging
import time
from collections.abc import Callable

import torch
from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.plugins.precision import Precision
from pytorch_lightning.utilities.seed import isolate_rng

from vc_lightning.data.crops import CropBatch
from vc_lightning.data.vocoder_crops import VocoderBatch
from vc_lightning.models.checkpoints import read_training
from vc_lightning.training.base_module import BaseModule

log = logging.getLogger("train")

BFLOAT16, FLOAT32 = PRECISIONS = ("bf16-mixed", "32-true")  # Lightning's names
SECONDS = 2.0  # of the measurement, at least
MIN_ROUNDS = 2  # steps of each precision; the first one also prepares kernels and memory


def choose_precision(
    trainer: Trainer, model: BaseModule, data: LightningDataModule, ckpt_path: str | None
) -> str:
    """Choose the faster precision for a training with `trainer.precision=auto`.

    Steps are timed if there is one process on a CPU with bfloat16 units. Several processes use
    bfloat16, so that all of them use the same. A resumed training uses the precision in its
    checkpoint, so that it continues exactly.

    Args:
        trainer: The Trainer, made for the precision that `best_precision` returns; its precision
            is changed to the choice.
        model: The task; the choice is stored in its `config`.
        data: The training data, after `setup`.
        ckpt_path: The checkpoint to resume, or None.

    Returns:
        Lightning's name of the precision.
    """
    is_cpu = trainer.strategy.root_device.type == "cpu"
    if not (is_cpu and trainer.precision == BFLOAT16 and trainer.world_size == 1):
        return trainer.precision
    if ckpt_path is None:
        seconds = measure_steps(model, next(iter(data.train_dataloader())))
        choice = min(PRECISIONS, key=seconds.__getitem__)
        figures = ", ".join(f"{seconds[name]:.3f} s in {name}" for name in PRECISIONS)
        log.info("a training step takes %s", figures)
    else:
        choice = read_training(ckpt_path)[1].get("trainer", {}).get("precision", BFLOAT16)
    if choice == FLOAT32:
        trainer.strategy.precision_plugin = Precision()
    model.config["trainer"]["precision"] = trainer.precision
    return trainer.precision


def measure_steps(
    model: BaseModule,
    batch: CropBatch | VocoderBatch,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Time training steps, forward and backward, alternately in each of `PRECISIONS`.

    The model stays unchanged: a copy computes, and the random generators are restored.

    Args:
        model: The task and its network.
        batch: A training batch.
        clock: Function that returns seconds.

    Returns:
        Seconds of the fastest step by precision: other programs can only slow a step down.
    """
    model = copy.deepcopy(model).train()
    taken: dict[str, list[float]] = {name: [] for name in PRECISIONS}
    end = clock() + SECONDS
    with isolate_rng():
        while len(taken[FLOAT32]) < MIN_ROUNDS or clock() < end:
            for name, seconds in taken.items():
                start = clock()
                with torch.autocast("cpu", torch.bfloat16, enabled=name == BFLOAT16):
                    loss = model.losses(model.network, batch)["loss"]
                loss.backward()
                seconds.append(clock() - start)
                model.zero_grad()
    return {name: min(seconds) for name, seconds in taken.items()}
