"""Recordings as a LightningDataModule: crops of cached mels, in an order that can be repeated."""

import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler

from vc_lightning.errors import InputError, require_at_least, require_seed, require_within
from vc_lightning.features import FeatureCache, n_frames, read_embedding, read_mel
from vc_lightning.mel import MelSpectrogram
from vc_lightning.speaker_encoder import SpeakerEncoder
from vc_lightning.utterances import (
    Utterance,
    find_utterances,
    is_file,
    limit_minutes,
    read_manifest,
    split_utterances,
)

log = logging.getLogger(__name__)

MEAN_MEL_UTTERANCES = 500  # enough that the mean mel no longer moves


@dataclass(frozen=True)
class Batch:
    """Utterances of one batch, padded by zeros.

    Attributes:
        mel: (B, n_mels, T), what is to be reconstructed.
        lengths: (B,), frames that are not padding.
        embedding: (B, E), whose voice it is.
        heard_mel, heard_embedding: the same, or of a copy in another voice, for the encoder.
    """

    mel: Tensor
    lengths: Tensor
    embedding: Tensor
    heard_mel: Tensor
    heard_embedding: Tensor

    def to(self, device: torch.device, non_blocking: bool = False) -> "Batch":
        """Moves all tensors to a device."""
        return Batch(*(t.to(device, non_blocking=non_blocking) for t in vars(self).values()))

    def pin_memory(self) -> "Batch":
        """Copies all tensors to page-locked memory."""
        return Batch(*(tensor.pin_memory() for tensor in vars(self).values()))


class Crops(Dataset):
    """Random crops of cached mels; an item is a pure function of (seed, epoch, position).

    Args:
        crop_frames: length of the crops; None gives whole utterances.
        n_warps, warp_probability: how many warped copies there are, and how often one of them is
            what the encoder hears.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        crop_frames: int | None,
        seed: int,
        n_warps: int = 0,
        warp_probability: float = 0.0,
    ):
        self.utterances = list(utterances)
        self.crop_frames = crop_frames
        self.seed = seed
        self.n_warps = n_warps
        self.warp_probability = warp_probability

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, item: tuple[int, int, int] | int) -> tuple[Tensor, ...]:
        """(epoch, position in the epoch, utterance) -> mel (n_mels, T), embedding (E,), both heard.

        A bare number comes from samplers of Lightning's own (`trainer.overfit_batches`).
        """
        epoch, position, index = (0, item, item) if isinstance(item, int) else item
        utterance = self.utterances[index]
        length = min(self.crop_frames or utterance.n_frames, utterance.n_frames)
        rng = np.random.default_rng((self.seed, epoch, position))
        start = int(rng.integers(utterance.n_frames - length + 1))
        warped = self.n_warps > 0 and rng.random() < self.warp_probability
        copies = (0, int(rng.integers(self.n_warps)) + 1 if warped else 0)
        return tuple(
            feature
            for copy in copies
            for feature in (
                read_mel(utterance.entry, start, start + length, copy),
                read_embedding(utterance.entry, copy),
            )
        )


class EpochSampler(Sampler):
    """Yields (epoch, position, utterance), in an order that depends on seed and epoch only."""

    def __init__(self, size: int, shuffle: bool, seed: int):
        self.size = size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        epoch = self.epoch if self.shuffle else 0
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(self.size) if self.shuffle else np.arange(self.size)
        for position, index in enumerate(order.tolist()):
            yield epoch, position, index


def collate(items: Sequence[tuple[Tensor, ...]]) -> Batch:
    """Pads the mels (n_mels, T) of items with zeros to the longest of them."""
    mels, embeddings, heard_mels, heard_embeddings = zip(*items, strict=True)
    lengths = torch.tensor([mel.shape[-1] for mel in mels])
    return Batch(
        mel=_padded(mels),
        lengths=lengths,
        embedding=torch.stack(embeddings),
        heard_mel=_padded(heard_mels),
        heard_embedding=torch.stack(heard_embeddings),
    )


def _padded(mels: Sequence[Tensor]) -> Tensor:
    return pad_sequence([mel.T for mel in mels], batch_first=True).transpose(1, 2)


class VoiceDataModule(LightningDataModule):
    """Any folder of recordings, or a manifest of them, as batches of mels and embeddings.

    Args:
        mel, speaker_encoder, encoder_identity: what makes the features, see `FeatureCache`.
        cache_dir: where the features are kept, shared by all data sets and runs.
        dir: folder of audio; with a manifest, what its paths are relative to.
        manifest: table of path, speaker and split.
        batch_size, shuffle, num_workers, pin_memory: of the training batches.
        crop_frames: length of random crops in mel frames; None gives whole utterances.
        warps: factors of copies with a stretched frequency axis, one of which the encoder hears in
            warp_probability of the crops, so that codes which carry the voice do not help.
        val_fraction, val_speakers: what is held out where no manifest says it.
        minutes_per_speaker: how much of every speaker is used; None for all.
        seed: of split, order and crops.
    """

    def __init__(
        self,
        mel: MelSpectrogram,
        speaker_encoder: SpeakerEncoder,
        encoder_identity: str,
        *,
        dir: str | None,
        manifest: str | None,
        cache_dir: str,
        batch_size: int,
        shuffle: bool,
        num_workers: int,
        pin_memory: bool,
        crop_frames: int | None,
        warps: Sequence[float],
        warp_probability: float,
        val_fraction: float,
        val_speakers: int | Sequence[str],
        minutes_per_speaker: float | None,
        seed: int,
    ):
        super().__init__()
        if dir is None and manifest is None:
            raise InputError("say what to train on: data.dir=FOLDER or data.manifest=TABLE")
        require_at_least(1, "data", batch_size=batch_size)
        require_at_least(0, "data", num_workers=num_workers)
        require_seed("data.seed", seed)
        if not isinstance(val_speakers, str | Sequence):
            require_at_least(0, "data", val_speakers=val_speakers)
        require_within(0, 1, "data", val_fraction=val_fraction)
        require_within(0, 1 + 1e-9, "data", warp_probability=warp_probability)
        for warp in warps:
            require_within(0.5, 2, "data", warps=warp)
        if crop_frames is not None:
            require_at_least(1, "data", crop_frames=crop_frames)
        if minutes_per_speaker is not None:
            require_within(0, float("inf"), "data", minutes_per_speaker=minutes_per_speaker)
        self.features = FeatureCache(
            Path(cache_dir), mel, speaker_encoder, encoder_identity, list(warps)
        )
        self.dir = Path(dir) if dir is not None else None
        self.manifest = Path(manifest) if manifest is not None else None
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.num_workers = num_workers
        self.pin_memory = pin_memory and torch.cuda.is_available()
        self.crop_frames = crop_frames
        self.warp_probability = warp_probability
        self.val_fraction = val_fraction
        self.val_speakers = val_speakers
        self.minutes_per_speaker = minutes_per_speaker
        self.seed = seed
        self.train: list[Utterance] = []
        self.val: list[Utterance] = []

    def prepare_data(self) -> None:
        """Computes the features that the cache does not hold yet."""
        if self.train:
            return  # the Trainer calls this again
        for path, reason in self.features.prepare(
            [u.path for u in self._listed if is_file(u.path)], self.num_workers
        ).items():
            log.warning("skipped %s: %s", path, reason)

    def setup(self, stage: str | None = None) -> None:
        """Finds the usable utterances and divides them."""
        if self.train:
            return
        listed = self._listed
        usable = []
        for utterance in listed:
            entry = self.features.entry(utterance.path) if is_file(utterance.path) else None
            frames = n_frames(entry) if entry else None
            if frames:
                usable.append(replace(utterance, entry=entry, n_frames=frames))
            elif entry is None:
                log.warning("skipped %s: there is no such file", utterance.path)
        if not usable:
            raise InputError(f"{self.manifest or self.dir}: none of {len(listed)} files is usable")
        self.train, self.val = split_utterances(
            usable, self.val_fraction, self.val_speakers, self.seed
        )
        if not self.train:
            raise InputError(f"{self.manifest or self.dir}: no utterance is left for training")
        if not self.val:
            log.warning("no validation: every speaker has one file; see data.val_speakers")
        hop_seconds = self.features.mel.hop_length / self.features.mel.sample_rate
        for name, utterances in (("training", self.train), ("validation", self.val)):
            log.info(
                "%s: %d utterances of %d speakers, %.1f minutes",
                name,
                len(utterances),
                len({u.speaker for u in utterances}),
                sum(u.n_frames for u in utterances) * hop_seconds / 60,
            )
        if skipped := len(listed) - len(usable):
            log.warning("%d of %d files were skipped", skipped, len(listed))

    @functools.cached_property
    def _listed(self) -> list[Utterance]:
        """What the folder or the manifest holds, usable or not."""
        if self.manifest is not None:
            listed = read_manifest(self.manifest, self.dir)
        else:
            listed = find_utterances(self.dir)
        if self.minutes_per_speaker is not None:
            listed = limit_minutes(listed, self.minutes_per_speaker)
        return listed

    def mean_mel(self) -> Tensor:
        """Mean training mel (n_mels,): what the networks have to beat."""
        rng = np.random.default_rng(self.seed)
        chosen = rng.permutation(len(self.train))[:MEAN_MEL_UTTERANCES]
        utterances = [self.train[index] for index in chosen]
        total = sum(read_mel(u.entry, 0, u.n_frames).sum(dim=-1) for u in utterances)
        return total / sum(u.n_frames for u in utterances)

    def train_dataloader(self) -> DataLoader:
        return self._loader(self.train, self.shuffle, self.warp_probability)

    def val_dataloader(self) -> DataLoader | list:
        return self._loader(self.val, False, warp_probability=0.0) if self.val else []

    def _loader(
        self, utterances: list[Utterance], shuffle: bool, warp_probability: float
    ) -> DataLoader:
        n_warps = len(self.features.warps) - 1
        return DataLoader(
            Crops(utterances, self.crop_frames, self.seed, n_warps, warp_probability),
            batch_size=self.batch_size,
            sampler=EpochSampler(len(utterances), shuffle, self.seed),
            num_workers=min(self.num_workers, len(utterances)),
            persistent_workers=self.num_workers > 0,
            pin_memory=self.pin_memory,
            collate_fn=collate,
        )
