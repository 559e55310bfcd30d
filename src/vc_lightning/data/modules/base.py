"""The interface of training data, and what its processes have in common."""

import signal
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from vc_lightning.data.crops.mel import Example
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.data.settings import LoadingSettings


def is_first_process() -> bool:
    """Return whether this is the process of rank 0, the one that reports."""
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]  # Lightning sets it


class TrainingDataModule(LightningDataModule):
    """The interface of training data that modules and callbacks use, for recordings and shards.

    Args:
        needs: The features that the network needs.
        settings: How batches are loaded.
    """

    def __init__(self, needs: FeatureNeeds, settings: LoadingSettings):
        super().__init__()
        self.needs = needs
        self.settings = settings
        self.mel = needs.mel
        self.encoder_identity = needs.encoder_identity
        self.seed = settings.seed
        self.resumed: dict | None = None

    def mean_mel(self) -> Tensor:
        """Average the training mels: (n_mels,), the constant output that a network must beat."""
        raise NotImplementedError

    @property
    def teacher_std(self) -> Tensor:
        """Standard deviation (D,) of the teacher's features; D is 0 without a teacher."""
        raise NotImplementedError

    @property
    def heard_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (D,) of what the recogniser hears; D is 0 without one."""
        raise NotImplementedError

    def clean_acoustics(self) -> Tensor:
        """Return the acoustics of clean training recordings (N_ACOUSTICS,)."""
        raise NotImplementedError

    def examples(self, n_speakers: int) -> list[Example]:
        """Read an utterance each of up to `n_speakers` speakers, held-out ones if there are any."""
        raise NotImplementedError

    def embeddings(self, limit: int) -> tuple[Tensor, list[str]]:
        """Read embeddings (N, E) and speakers of up to `limit` utterances."""
        raise NotImplementedError

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches of this process in an epoch of the Trainer."""
        raise NotImplementedError

    @property
    def start(self) -> tuple[int, int]:
        """Epoch and batch in it at which `train_dataloader` begins: (0, 0) unless resumed."""
        raise NotImplementedError

    def load_state_dict(self, state_dict: dict) -> None:
        """Keep the position of a checkpoint, where `train_dataloader` then starts."""
        self.resumed = state_dict
        vars(self).pop("start", None)  # where it is cached

    def loader_options(self, num_workers: int) -> dict[str, Any]:
        """Return the arguments that all DataLoaders share."""
        return {
            "num_workers": num_workers,
            "persistent_workers": num_workers > 0,
            "pin_memory": self.settings.pin_memory and torch.cuda.is_available(),
            "worker_init_fn": ignore_signals,
        }

    @property
    def process(self) -> tuple[int, int]:
        """Rank of this process and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    @property
    def batches_done(self) -> int:
        """Number of batches that each process has trained on, up to its last optimizer step."""
        if self.trainer is None:
            return 0
        done: Any = self.trainer.fit_loop.epoch_loop.batch_progress  # typed as another class
        is_whole = done.current.processed == self.batches_per_epoch
        waiting = 0 if is_whole else done.current.processed % self.trainer.accumulate_grad_batches
        return done.total.processed - waiting

    def limited(self, n_batches: int) -> int:
        """Apply `trainer.limit_train_batches`, a number or a share, to the batches of an epoch."""
        limit = self.trainer.limit_train_batches if self.trainer else 1.0
        return min(limit, n_batches) if isinstance(limit, int) else int(limit * n_batches)


def ignore_signals(_worker: int) -> None:
    """Let a DataLoader worker ignore Ctrl-C and SIGTERM, which reach all processes of a run.

    The main process needs its workers for one more step, saves, and then ends them itself.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
