"""Fit a training run to a computer's CPU: the precision of products, and the memory it keeps."""

import copy
import ctypes
import logging
import sys
import time
from collections.abc import Callable

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities.seed import isolate_rng

from vc_lightning.data.crops.mel import CropBatch
from vc_lightning.data.crops.vocoder import VocoderBatch
from vc_lightning.models.checkpoints import read_training
from vc_lightning.training.tasks.base import BaseModule

log = logging.getLogger("train")

BFLOAT16, FLOAT32 = PRECISIONS = ("bf16-mixed", "32-true")  # Lightning's names
SECONDS = 2.0  # of the measurement, at least
MIN_ROUNDS = 2  # steps of each precision; the first one also prepares kernels and memory
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h (glibc)
ALL = 2**31 - 1  # bytes


def choose_precision(model: BaseModule, data: LightningDataModule, ckpt_path: str | None) -> str:
    """Choose the faster precision for one process on a CPU, where `best_precision` is bfloat16.

    A resumed training run uses the precision in its checkpoint, so that it continues exactly.

    Args:
        model: The task; the choice is stored in its `config`.
        data: The training data, after `setup`.
        ckpt_path: The checkpoint to resume, or None.

    Returns:
        Lightning's name of the precision.
    """
    settings = model.config["trainer"]
    if settings["precision"] != BFLOAT16:
        return settings["precision"]
    if ckpt_path is None:
        seconds = measure_steps(model, next(iter(data.train_dataloader())))
        settings["precision"] = min(PRECISIONS, key=seconds.__getitem__)
        figures = ", ".join(f"{seconds[name]:.3f} s in {name}" for name in PRECISIONS)
        log.info("a training step takes %s", figures)
    else:
        stored = read_training(ckpt_path)[1].get("trainer", {})
        settings["precision"] = stored.get("precision", BFLOAT16)
    return settings["precision"]


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


def keep_freed_memory() -> None:
    """Keep freed memory for the next step, where the C library can be told to (Linux, glibc).

    It would return each tensor of more than 32 MB to the system, which clears all of its pages
    when it lends them again.
    """
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        ctypes.CDLL(None).mallopt(M_MMAP_MAX, 0)
        ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, ALL)
