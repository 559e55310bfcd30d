"""Recordings as a LightningDataModule: their choice, split and order, and resuming."""

import functools
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vc_lightning.audio.checks import acoustics
from vc_lightning.common.errors import InputError
from vc_lightning.common.parts import Part
from vc_lightning.data.crops.mel import Example
from vc_lightning.data.crops.order import EpochBatches, shares
from vc_lightning.data.features.cache import FeatureCache
from vc_lightning.data.features.files import CachedFeatures, Segment
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.data.manifest import AudioFile, Utterance, split_utterances
from vc_lightning.data.modules.base import TrainingDataModule, is_first_process
from vc_lightning.data.settings import RecordingSettings

log = logging.getLogger(__name__)

N_STATISTICS_UTTERANCES = 500  # that means are estimated from; more hardly change the mean mel


class RecordingsDataModule(TrainingDataModule):
    """Recordings of a folder or a manifest; subclasses make batches of their crops.

    The order of the batches is a pure function of seed, epoch and position, so that a training run
    resumes exactly, in the middle of an epoch as well.

    The arguments that are not listed here are those of `TrainingDataModule`.

    Args:
        features: Computes and caches the features.
    """

    settings: RecordingSettings

    def __init__(self, needs: FeatureNeeds, settings: RecordingSettings, features: FeatureCache):
        super().__init__(needs, settings)
        self.features = features
        self.files = features.files
        self.train: list[Utterance] = []
        self.val: list[Utterance] = []
        self.unusable: dict[Path, str] = {}

    # Recordings ---------------------------------------------------------------------------------

    def setup(self, stage: str | None = None) -> None:
        """List the recordings, compute missing features, and split the utterances.

        Raises:
            InputError: There are no usable recordings, or none is left for training.
        """
        if self.train:
            return  # the Trainer calls this again
        settings = self.settings
        listed, segments = self.prepare_part(Part(1, 1))
        usable = [
            Utterance(r.path, r.speaker, r.split, segment)
            for r in listed
            for segment in segments.get(r.path, [])
        ]
        place = Path(settings.manifest or str(settings.dir))
        if not usable:
            raise InputError(
                f"{place}: none of {len(listed)} files is usable; the warnings above say why"
            )
        self.train, self.val = split_utterances(
            usable, settings.val_fraction, settings.val_speakers, self.seed
        )
        if not self.train:
            raise InputError(
                f"{place}: no utterance is left for training; hold out fewer (data.val_speakers, "
                "data.val_fraction, or the split val of the manifest)"
            )
        if not self.val:
            log.warning(
                "no validation: data.val_fraction=%s holds out none of %d utterances; "
                "raise it or set data.val_speakers",
                settings.val_fraction,
                len(self.train),
            )

    def prepare_part(self, part: Part) -> tuple[list[AudioFile], dict[Path, list[Segment]]]:
        """Compute the missing features of one part of the recordings, and warn of unusable ones.

        Args:
            part: The part; the recordings are dealt to the parts in turn.

        Returns:
            The recordings of this part, and the segments of the usable ones.
        """
        listed = self.settings.list_files()
        paths = part.turns(list(dict.fromkeys(recording.path for recording in listed)))
        own = set(paths)
        listed = [recording for recording in listed if recording.path in own]
        segments, self.unusable = self.features.prepare(
            paths, self.settings.num_workers, show_progress=is_first_process()
        )
        for path, reason in self.unusable.items():
            log.warning("skipped %s: %s", path, reason)
        if self.unusable:
            log.warning("%d of %d files were skipped", len(self.unusable), len(listed))
        usable = {recording.speaker for recording in listed if recording.path in segments}
        lost = {recording.speaker for recording in listed} - usable
        if lost and usable:
            names = ", ".join(sorted(lost)[:10]) + ", …" * (len(lost) > 10)
            log.warning("%d speakers without a usable file: %s", len(lost), names)
        return listed, segments

    # Statistics and examples --------------------------------------------------------------------

    def mean_mel(self) -> Tensor:
        """Average the training mels: (n_mels,), the constant output that a network must beat."""
        utterances = self._sampled()
        total = torch.zeros(self.mel.n_mels)
        for u in utterances:
            total += u.read_mel(0, u.n_frames).sum(dim=-1)
        return total / sum(u.n_frames for u in utterances)

    @functools.cached_property
    def teacher_std(self) -> Tensor:
        """Standard deviation (D,) of the teacher's features; D is 0 without a teacher."""
        squares = [u.read_teacher(0, u.n_frames).square() for u in self._sampled()]
        return torch.cat(squares).mean(dim=0).sqrt()  # the features of a recording have mean 0

    @functools.cached_property
    def heard_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (D,) of what the recogniser hears; D is 0 without one."""
        if not self.files.has("heard"):
            return torch.zeros(0), torch.zeros(0)
        joined = torch.cat([u.read_heard(0, u.n_frames) for u in self._sampled()], dim=1)
        return joined.mean(dim=1), joined.std(dim=1)

    def clean_acoustics(self) -> Tensor:
        """Return the acoustics of clean training recordings (N_ACOUSTICS,)."""
        return acoustics.clean(torch.stack([u.acoustics for u in self._sampled()]))

    def _sampled(self) -> list[CachedFeatures]:
        """Choose random training utterances to estimate means from."""
        rng = np.random.default_rng(self.seed)
        chosen = rng.permutation(len(self.train))[:N_STATISTICS_UTTERANCES]
        return [self.files.of(self.train[index].segment) for index in chosen]

    def examples(self, n_speakers: int) -> list[Example]:
        """Read an utterance each of up to `n_speakers` speakers, held-out ones if there are any."""
        by_speaker = {u.speaker: u for u in reversed(self.val or self.train)}
        chosen = [by_speaker[speaker] for speaker in sorted(by_speaker)][:n_speakers]
        return [Example.of(u.speaker, self.files.of(u.segment)) for u in chosen]

    def embeddings(self, limit: int) -> tuple[Tensor, list[str]]:
        """Read embeddings (N, E) and speakers of up to `limit` utterances."""
        shown = (self.val + self.train)[:limit]
        embeddings = [self.files.of(u.segment).read_embedding() for u in shown]
        return torch.stack(embeddings), [u.speaker for u in shown]

    # Batches ------------------------------------------------------------------------------------

    def train_loader(self, crops: Dataset, collate: Callable[[list], Any]) -> DataLoader:
        """Load the batches of an epoch, without those that a resumed training run has used."""
        likely = shares(self.train, self.settings.sampling)
        batches = self._batches(self.train, self.settings.shuffle, likely, self.start)
        return self._loader(crops, batches, collate)

    def val_loader(self, crops: Dataset, collate: Callable[[list], Any]) -> DataLoader | list:
        """Load the validation set in order; [] where it is smaller than the number of processes."""
        if len(self.val) < self.process[1]:
            return []
        return self._loader(crops, self._batches(self.val, shuffle=False), collate)

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches of this process in an epoch of the Trainer."""
        return self.limited(len(self._batches(self.train, self.settings.shuffle)))

    def _batches(
        self,
        utterances: list[Utterance],
        shuffle: bool,
        likely: np.ndarray | None = None,
        start: tuple[int, int] = (0, 0),
    ) -> EpochBatches:
        """Return the batches of an epoch for this process; see `EpochBatches`."""
        size, batch_size = len(utterances), self.settings.batch_size
        return EpochBatches(size, batch_size, shuffle, self.seed, likely, *self.process, start)

    def _loader(
        self, crops: Dataset, batches: EpochBatches, collate: Callable[[list], Any]
    ) -> DataLoader:
        options = self.loader_options(min(self.settings.num_workers, batches.size))
        return DataLoader(crops, batch_sampler=batches, collate_fn=collate, **options)

    # Resuming -----------------------------------------------------------------------------------

    @functools.cached_property  # every checkpoint uses it
    def fingerprint(self) -> str:
        """Hash of the training utterances and of all that decides their order."""
        order = (
            self.seed,
            self.settings.shuffle,
            self.settings.sampling,
            self.settings.batch_size,
            self.process[1],
        )
        digest = hashlib.sha256(repr(order).encode())
        for utterance in self.train:
            segment = utterance.segment
            digest.update(f"{segment.content} {segment.index}\n".encode())
        return digest.hexdigest()[:16]

    def state_dict(self) -> dict:
        """Return the position in the data, for `last.ckpt`."""
        return {
            "batches": self.batches_done,
            "epoch_batches": self.batches_per_epoch,
            "of": self.fingerprint,
        }

    @functools.cached_property
    def start(self) -> tuple[int, int]:
        """Epoch and batch in it at which `train_dataloader` begins: (0, 0) unless resumed."""
        if self.resumed is None:
            return 0, 0
        if self.resumed["of"] == self.fingerprint:
            return divmod(self.resumed["batches"], self.batches_per_epoch)
        log.warning("the training data or their order have changed; a new epoch begins")
        return -(-self.resumed["batches"] // self.resumed["epoch_batches"]), 0
