"""Shards as a LightningDataModule: batches as of a folder, in an order of their own."""

import itertools
import logging
import random
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vc_lightning.audio.mel import MelSpectrogram, require_same_settings
from vc_lightning.audio.pitch import tracker_name
from vc_lightning.common.errors import InputError, require_at_least, require_seed
from vc_lightning.data import shards
from vc_lightning.data.crops import (
    NO_COPIES,
    Augmentation,
    Example,
    VtlpCopies,
    choose_copies,
    choose_crop,
    collate,
    ignore_signals,
)
from vc_lightning.data.shards import Index, Sample, Shards
from vc_lightning.models.checkpoints import require_same_encoder
from vc_lightning.models.speaker_encoder import SpeakerEncoder
from vc_lightning.models.teachers import Teacher

log = logging.getLogger(__name__)

MAX_SHOWN = 256  # utterances read only to be shown: the shards may be far away


class CropStream(IterableDataset):
    """Random crops of streamed mels; a crop is a pure function of (seed, epoch, key).

    Every process and worker reads shards of its own. In an epoch all of them together read every
    shard once; each epoch distributes and orders the shards anew.

    Args:
        source: The shards.
        epochs: Epochs to read, one after the other.
        crop_frames: Length of the crops; None gives whole utterances.
        seed: Seed of order and crops.
        copies: VTLP copies allowed as input and as target.
        factors: VTLP factors of all copies, 1 first.
        augmentations: Further changes to the encoder's input.
        shuffle_buffer: Crops of which each worker draws the next one; 0 keeps the order.
        rank: Number of this process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        source: Shards,
        epochs: range,
        crop_frames: int | None,
        seed: int,
        copies: VtlpCopies = NO_COPIES,
        factors: Sequence[float] = (1.0,),
        augmentations: Sequence[Augmentation] = (),
        shuffle_buffer: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        super().__init__()
        self.source = source
        self.epochs = epochs
        self.crop_frames = crop_frames
        self.seed = seed
        self.copies = copies
        self.factors = factors
        self.augmentations = augmentations
        self.shuffle_buffer = shuffle_buffer
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for epoch in self.epochs:
            yield from self.of_epoch(epoch if self.shuffle_buffer else 0)

    def of_epoch(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """Read this process's and worker's part of an epoch."""
        worker = get_worker_info()
        worker_id, n_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        reader, n_readers = self.rank * n_workers + worker_id, self.world_size * n_workers
        order = np.arange(len(self.source))
        if self.shuffle_buffer:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        samples = itertools.chain.from_iterable(map(self.source.read, order[reader::n_readers]))
        # Cropped before they are shuffled: whole utterances would need a buffer ten times as large.
        crops = (self.crop(epoch, sample) for sample in samples)
        if self.shuffle_buffer:
            rng = random.Random(f"{self.seed} {epoch} {reader}")
            shuffle = shards.webdataset.shuffle(self.shuffle_buffer, rng=rng)
            crops = shuffle(crops)
        return crops

    def crop(self, epoch: int, sample: Sample) -> tuple[Tensor, ...]:
        """Crop an utterance, as `Crops.__getitem__` does."""
        rng = np.random.default_rng((self.seed, epoch, sample.key))
        crop = choose_crop(rng, sample.mels.shape[1], self.crop_frames, self.copies)
        embeddings = torch.from_numpy(sample.embeddings)
        target_mel = _frames(sample, crop.target_copy, crop.start, crop.stop)
        input_mel = target_mel
        if crop.input_copy != crop.target_copy:
            input_mel = _frames(sample, crop.input_copy, crop.start, crop.stop)
        for augment in self.augmentations:
            input_mel = augment(input_mel, rng)
        f0 = torch.from_numpy(sample.f0[crop.start : crop.stop] * self.factors[crop.target_copy])
        teacher = torch.from_numpy(sample.teacher[crop.start : crop.stop]).float()
        return (
            target_mel,
            embeddings[crop.target_copy],
            input_mel,
            embeddings[crop.input_copy],
            f0,
            teacher,
        )


def _frames(sample: Sample, copy: int, start: int, stop: int) -> Tensor:
    """Copy frames of a copy's mel, float32 (n_mels, stop − start); keeps no other memory alive."""
    return torch.from_numpy(sample.mels[copy, start:stop]).float().T


def _made_by(what: str, maker: str | None) -> str:
    """Name features and their maker in an error."""
    return f"no {what}" if maker is None else f"{what} of {maker}"


class ShardsDataModule(LightningDataModule):
    """A local or remote folder of shards as batches of mels and embeddings.

    Args:
        mel, speaker_encoder, encoder_identity: What the features must have been made with.
        with_f0: Whether the shards must hold the pitch.
        teacher: Recogniser whose features the shards must hold, or None.
        dir: The folder, its URL, or `pipe:` and a command in which {} stands for a file's name.
        batch_size, shuffle, num_workers, pin_memory: See `RecordingsDataModule`.
        shuffle_buffer: Crops that each worker keeps to draw the next one from.
        crop_frames: Length of random crops in mel frames; None gives whole utterances.
        vtlp_factors: VTLP copies to use; None for all that the shards hold.
        vtlp_probability, vtlp_target_factors, vtlp_target_probability, augmentations: See
            `VoiceDataModule`.
        seed: Seed of order and crops.
    """

    def __init__(
        self,
        mel: MelSpectrogram,
        speaker_encoder: SpeakerEncoder,
        encoder_identity: str,
        with_f0: bool = False,
        teacher: Teacher | None = None,
        *,
        dir: str | None,
        batch_size: int,
        shuffle: bool,
        shuffle_buffer: int,
        num_workers: int,
        pin_memory: bool,
        crop_frames: int | None,
        vtlp_factors: Sequence[float] | None,
        vtlp_probability: float,
        vtlp_target_factors: Sequence[float],
        vtlp_target_probability: float,
        augmentations: Sequence[Augmentation],
        seed: int,
    ):
        super().__init__()
        shards.require_webdataset("data=shards")
        if dir is None:
            raise InputError("say where the shards are: data.dir=FOLDER or URL")
        require_at_least(1, "data", batch_size=batch_size, shuffle_buffer=shuffle_buffer)
        require_at_least(0, "data", num_workers=num_workers)
        require_seed("data.seed", seed)
        if crop_frames is not None:
            require_at_least(1, "data", crop_frames=crop_frames)
        self.mel = mel
        self.encoder_identity = encoder_identity
        self.with_f0 = with_f0
        self.teacher = teacher
        self.dir = str(dir)
        self.batch_size = batch_size
        self.shuffle_buffer = shuffle_buffer if shuffle else 0
        self.num_workers = num_workers
        self.pin_memory = pin_memory and torch.cuda.is_available()
        self.crop_frames = crop_frames
        self.vtlp_factors = vtlp_factors
        self.vtlp_probability = vtlp_probability
        self.vtlp_target_factors = list(vtlp_target_factors)
        self.vtlp_target_probability = vtlp_target_probability
        self.augmentations = list(augmentations)
        self.seed = seed
        self.index: Index | None = None
        self.resumed: dict | None = None

    def setup(self, stage: str | None = None) -> None:
        """Read the index of the shards; InputError when they do not fit this training."""
        if self.index is not None:
            return  # the Trainer calls this again
        index = shards.read_index(self.dir)
        name = f"data.dir={self.dir}"
        require_same_settings(index.mel, self.mel.settings, name, "this training")
        require_same_encoder(index.speaker_encoder, self.encoder_identity, name)
        if self.with_f0 and index.pitch_tracker != tracker_name():
            raise InputError(
                f"{name}: the shards hold {_made_by('pitch', index.pitch_tracker)}, this training "
                f"needs that of {tracker_name()}; write them again, or train with model.f0=false"
            )
        if self.teacher is not None and index.teacher != self.teacher.identity:
            raise InputError(
                f"{name}: the shards hold {_made_by('teacher features', index.teacher)}, this "
                f"training needs those of {self.teacher.identity}; write them again, or train with "
                "teacher=none"
            )
        wanted = index.warps if self.vtlp_factors is None else self.vtlp_factors
        for factor in wanted:
            if factor not in index.warps:
                raise InputError(
                    f"data.vtlp_factors={factor}: the shards of {self.dir} hold {index.warps}"
                )
        n_processes, n_workers = self._process[1], max(1, self.num_workers)
        if len(index.train.shards) < n_processes * n_workers:
            raise InputError(
                f"{name}: {len(index.train.shards)} training shards are fewer than {n_processes} "
                f"processes × {n_workers} workers; lower data.num_workers or trainer.devices, or "
                "write smaller shards (data.shard_megabytes)"
            )
        self.copies = choose_copies(
            list(wanted),
            self.vtlp_probability,
            self.vtlp_target_factors,
            self.vtlp_target_probability,
            index.warps,
        )
        n_copies = 1 + len(index.warps)
        self.train = Shards(self.dir, "train", index.train.shards, n_copies)
        self.val = Shards(self.dir, "val", index.val.shards, n_copies)
        self.index = index
        sizes = index.train.utterances, len(self.train), index.val.utterances, self.dir
        log.info("%d utterances in %d shards to train on, %d to validate: %s", *sizes)

    def mean_mel(self) -> Tensor:
        """Mean training mel (n_mels,), the trivial answer a network must beat."""
        return torch.tensor(self.index.mean_mel)

    @property
    def teacher_std(self) -> Tensor:
        """Standard deviation (D,) of the teacher's features; D is 0 without a teacher."""
        return torch.tensor(self.index.teacher_std)

    def examples(self, n_speakers: int) -> list[Example]:
        """Read one utterance each of some speakers, among the first that the shards hold."""
        by_speaker = {s.speaker: s for s in reversed(self._shown())}
        samples = [by_speaker[speaker] for speaker in sorted(by_speaker)][:n_speakers]
        return [
            Example(
                s.speaker,
                _frames(s, 0, 0, s.mels.shape[1]),
                torch.from_numpy(s.embeddings[0]),
                torch.from_numpy(s.f0),
            )
            for s in samples
        ]

    def embeddings(self, limit: int) -> tuple[Tensor, list[str]]:
        """Read embeddings (N, E) of the first utterances, and their speakers."""
        shown = self._shown()[:limit]
        embeddings = torch.stack([torch.from_numpy(s.embeddings[0]) for s in shown])
        return embeddings, [s.speaker for s in shown]

    def _shown(self) -> list[Sample]:
        """Read utterances to show, from the validation set if there is one."""
        return list(itertools.islice((self.val or self.train).read_all(), MAX_SHOWN))

    @property
    def _process(self) -> tuple[int, int]:
        """Rank of this process and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches of this process in an epoch, as if all shards had the same size."""
        return -(-self.index.train.utterances // (self.batch_size * self._process[1]))

    def train_dataloader(self) -> DataLoader:
        """Load training batches without end."""
        # Without end, as in `sampling.EndlessBatches`: a process or worker whose part of an
        # epoch is smaller continues with its next epoch, so that no other waits for it.
        first = self._first_epoch()
        stream = CropStream(
            self.train,
            range(first, sys.maxsize),
            self.crop_frames,
            self.seed,
            self.copies,
            [1.0, *self.index.warps],
            self.augmentations,
            self.shuffle_buffer,
            *self._process,
        )
        return self._loader(stream, self.num_workers)

    def val_dataloader(self) -> DataLoader | list:
        """Load the validation set once."""
        # Every process reads all of it: split between them, the numbers of batches would differ,
        # and a process with more would wait for the others inside the loss.
        if not self.index.val.utterances:
            return []
        stream = CropStream(self.val, range(1), self.crop_frames, self.seed)
        return self._loader(stream, min(self.num_workers, len(self.val)))

    def _loader(self, stream: CropStream, num_workers: int) -> DataLoader:
        return DataLoader(
            stream,
            batch_size=self.batch_size,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=self.pin_memory,
            collate_fn=collate,
            worker_init_fn=ignore_signals,
        )

    def state_dict(self) -> dict:
        """Describe how far the training is, for `last.ckpt`."""
        before = self.resumed or {"epochs": 0, "batches": 0}
        done = self.trainer.global_step * self.trainer.accumulate_grad_batches
        begun = -(-(done - before["batches"]) // self.batches_per_epoch)
        return {"epochs": before["epochs"] + begun, "batches": done}

    def load_state_dict(self, state_dict: dict) -> None:
        """Continue after a checkpoint."""
        self.resumed = state_dict

    def _first_epoch(self) -> int:
        """Count the epochs begun before; 0 unless a checkpoint was restored."""
        if self.resumed is None:
            return 0
        log.info(
            "shards cannot be resumed in the middle of an epoch: training continues with epoch %d",
            self.resumed["epochs"],
        )
        return self.resumed["epochs"]
