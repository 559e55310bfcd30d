"""Shards as a LightningDataModule: the same batches as of a folder, in an order of their own."""

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
    NO_WARPING,
    Augmentation,
    Example,
    Warping,
    collate,
    draw,
    outlive_signals,
    warping_of,
)
from vc_lightning.data.shards import Index, Sample, Shards
from vc_lightning.models.checkpoints import require_same_encoder
from vc_lightning.models.speaker_encoder import SpeakerEncoder
from vc_lightning.models.teachers import Teacher

log = logging.getLogger(__name__)

SHOWN = 256  # utterances that are read only to be shown: they may have a long way to go


class CropStream(IterableDataset):
    """Random crops of streamed mels; a crop is a pure function of (seed, epoch, key).

    Every process and worker reads shards of its own. In an epoch all of them together read every
    shard once, in an order and a distribution that are new in every epoch.

    Args:
        epochs: which to read, one after the other.
        crop_frames: length of the crops; None gives whole utterances.
        warping: which copies in other voices take part.
        factors: the warps of the copies, 1 first.
        augmentations: what else is done to what it hears.
        shuffle_buffer: of how many crops each worker draws the next one; 0 for no random order.
        rank, world_size: which process this is.
    """

    def __init__(
        self,
        source: Shards,
        epochs: range,
        crop_frames: int | None,
        seed: int,
        warping: Warping = NO_WARPING,
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
        self.warping = warping
        self.factors = factors
        self.augmentations = augmentations
        self.shuffle_buffer = shuffle_buffer
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for epoch in self.epochs:
            yield from self.of_epoch(epoch if self.shuffle_buffer else 0)

    def of_epoch(self, epoch: int) -> Iterator[tuple[Tensor, ...]]:
        """This process's and worker's part of an epoch."""
        worker = get_worker_info()
        worker_id, n_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        reader, n_readers = self.rank * n_workers + worker_id, self.world_size * n_workers
        order = np.arange(len(self.source))
        if self.shuffle_buffer:
            order = np.random.default_rng((self.seed, epoch)).permutation(order)
        samples = itertools.chain.from_iterable(map(self.source.read, order[reader::n_readers]))
        # Cropped before they are shuffled: whole utterances would make the buffer ten times larger.
        crops = (self.crop(epoch, sample) for sample in samples)
        if self.shuffle_buffer:
            rng = random.Random(f"{self.seed} {epoch} {reader}")
            shuffle = shards.webdataset.shuffle(self.shuffle_buffer, rng=rng)
            crops = shuffle(crops)
        return crops

    def crop(self, epoch: int, sample: Sample) -> tuple[Tensor, ...]:
        """mel (n_mels, T), embedding (E,), both as the encoder hears, f0 (T,), teacher (T, D)."""
        rng = np.random.default_rng((self.seed, epoch, sample.key))
        crop = draw(rng, sample.mels.shape[1], self.crop_frames, self.warping)
        embeddings = torch.from_numpy(sample.embeddings)
        mel = _frames(sample, crop.given, crop.start, crop.stop)
        heard_mel = mel
        if crop.heard != crop.given:
            heard_mel = _frames(sample, crop.heard, crop.start, crop.stop)
        for augment in self.augmentations:
            heard_mel = augment(heard_mel, rng)
        f0 = torch.from_numpy(sample.f0[crop.start : crop.stop] * self.factors[crop.given])
        teacher = torch.from_numpy(sample.teacher[crop.start : crop.stop]).float()
        return mel, embeddings[crop.given], heard_mel, embeddings[crop.heard], f0, teacher


def _frames(sample: Sample, copy: int, start: int, stop: int) -> Tensor:
    """Frames of a copy's mel, float32 (n_mels, stop − start), that keep nothing else in memory."""
    return torch.from_numpy(sample.mels[copy, start:stop]).float().T


def _made_by(what: str, maker: str | None) -> str:
    return f"no {what}" if maker is None else f"{what} of {maker}"


class ShardsDataModule(LightningDataModule):
    """A folder of shards, near or far, as batches of mels and embeddings.

    Args:
        mel, speaker_encoder, encoder_identity: what the features must have been made with.
        with_f0: whether the network is told the pitch, which the shards must then hold.
        teacher: who teaches the encoder; its features must then be in the shards.
        dir: the folder, its URL, or `pipe:` and a command in which {} stands for a file's name.
        batch_size, shuffle, num_workers, pin_memory: of the training batches of one process.
        shuffle_buffer: how many crops each worker keeps to draw the next one from.
        crop_frames: length of random crops in mel frames; None gives whole utterances.
        warps: which of the warped copies are used; None for all that there are.
        warp_probability, voice_warps, voice_warp_probability, augmentations: see
            `VoiceDataModule`.
        seed: of order and crops.
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
        warps: Sequence[float] | None,
        warp_probability: float,
        voice_warps: Sequence[float],
        voice_warp_probability: float,
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
        self.warps = warps
        self.warp_probability = warp_probability
        self.voice_warps = list(voice_warps)
        self.voice_warp_probability = voice_warp_probability
        self.augmentations = list(augmentations)
        self.seed = seed
        self.index: Index | None = None
        self.resumed: dict | None = None

    def setup(self, stage: str | None = None) -> None:
        """Reads what the shards hold; InputError when they do not fit this training."""
        if self.index is not None:
            return  # the Trainer calls this again
        index = shards.read_index(self.dir)
        name = f"data.dir={self.dir}"
        require_same_settings(index.mel, self.mel.settings, name, "this training")
        require_same_encoder(index.speaker_encoder, self.encoder_identity, name)
        if self.with_f0 and index.pitch_tracker != tracker_name():
            raise InputError(
                f"{name}: the shards hold {_made_by('pitch', index.pitch_tracker)}, this training "
                f"needs that of {tracker_name()}; write them anew, or train with model.f0=false"
            )
        if self.teacher is not None and index.teacher != self.teacher.identity:
            raise InputError(
                f"{name}: the shards hold {_made_by('teacher features', index.teacher)}, this "
                f"training needs those of {self.teacher.identity}; write them anew, or train with "
                "teacher=none"
            )
        wanted = index.warps if self.warps is None else self.warps
        for warp in wanted:
            if warp not in index.warps:
                raise InputError(f"data.warps={warp}: the shards of {self.dir} hold {index.warps}")
        n_processes, n_workers = self._process[1], max(1, self.num_workers)
        if len(index.train.shards) < n_processes * n_workers:
            raise InputError(
                f"{name}: {len(index.train.shards)} training shards are fewer than {n_processes} "
                f"processes × {n_workers} workers; lower data.num_workers or trainer.devices, or "
                "write smaller shards (data.shard_megabytes)"
            )
        self.warping = warping_of(
            list(wanted),
            self.warp_probability,
            self.voice_warps,
            self.voice_warp_probability,
            index.warps,
        )
        n_copies = 1 + len(index.warps)
        self.train = Shards(self.dir, "train", index.train.shards, n_copies)
        self.val = Shards(self.dir, "val", index.val.shards, n_copies)
        self.index = index
        sizes = index.train.utterances, len(self.train), index.val.utterances, self.dir
        log.info("%d utterances in %d shards to train on, %d to validate: %s", *sizes)

    def mean_mel(self) -> Tensor:
        """Mean training mel (n_mels,): what the networks have to beat."""
        return torch.tensor(self.index.mean_mel)

    @property
    def teacher_std(self) -> Tensor:
        """Standard deviation (D,) of the teacher's features; D is 0 without a teacher."""
        return torch.tensor(self.index.teacher_std)

    def examples(self, n_speakers: int) -> list[Example]:
        """An utterance of each of some speakers among the first that are read."""
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
        """Embeddings (N, E) of the first utterances that are read, and whose they are."""
        shown = self._shown()[:limit]
        return torch.stack([torch.from_numpy(s.embeddings[0]) for s in shown]), [
            s.speaker for s in shown
        ]

    def _shown(self) -> list[Sample]:
        """Utterances to show, held out ones where there are any."""
        return list(itertools.islice((self.val or self.train).read_all(), SHOWN))

    @property
    def _process(self) -> tuple[int, int]:
        """Which process this is, and of how many."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    @property
    def batches_per_epoch(self) -> int:
        """How many batches of this process are an epoch, were all shards of the same size."""
        return -(-self.index.train.utterances // (self.batch_size * self._process[1]))

    def train_dataloader(self) -> DataLoader:
        # Without end, as in `sampling.EndlessBatches`: a process or worker that got less of an
        # epoch than the others goes on to its next one, and nobody waits for it in vain.
        first = self._first_epoch()
        stream = CropStream(
            self.train,
            range(first, sys.maxsize),
            self.crop_frames,
            self.seed,
            self.warping,
            [1.0, *self.index.warps],
            self.augmentations,
            self.shuffle_buffer,
            *self._process,
        )
        return self._loader(stream, self.num_workers)

    def val_dataloader(self) -> DataLoader | list:
        # Every process reads all of it: shared out, the processes would have unequal numbers of
        # batches, and whoever has more would wait for the others inside the loss.
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
            worker_init_fn=outlive_signals,
        )

    def state_dict(self) -> dict:
        before = self.resumed or {"epochs": 0, "batches": 0}
        done = self.trainer.global_step * self.trainer.accumulate_grad_batches
        begun = -(-(done - before["batches"]) // self.batches_per_epoch)
        return {"epochs": before["epochs"] + begun, "batches": done}

    def load_state_dict(self, state_dict: dict) -> None:
        self.resumed = state_dict

    def _first_epoch(self) -> int:
        """Epochs that were begun before: none unless a checkpoint was restored."""
        if self.resumed is None:
            return 0
        log.info(
            "a stream of shards cannot be continued in the middle: training goes on with epoch %d",
            self.resumed["epochs"],
        )
        return self.resumed["epochs"]
