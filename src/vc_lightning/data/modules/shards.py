"""Shards as a LightningDataModule: the same batches as of recordings, in another order."""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from vc_lightning.audio.files import containers
from vc_lightning.audio.mel import require_same_settings
from vc_lightning.common.errors import InputError, needs_extra, require_at_least
from vc_lightning.data.crops.mel import Cropping, Example, collate
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.data.modules.base import TrainingDataModule
from vc_lightning.data.settings import CropSettings
from vc_lightning.data.shards.format import Index, Sample, Shards, read_index, require_webdataset
from vc_lightning.data.shards.stream import START, CropStream, Position, StreamLoader
from vc_lightning.models import pitch_tracker
from vc_lightning.models.checkpoints import require_same_encoder

log = logging.getLogger(__name__)

MAX_EPOCHS = 2**31  # more than any training run has: the Trainer ends it
MAX_SHOWN = 256  # utterances read for examples and embeddings; remote shards are slow to read


@dataclass(frozen=True, kw_only=True)
class ShardsSettings(CropSettings):
    """Settings of `data=shards`.

    Attributes:
        dir: The folder, its URL, `hf://datasets/OWNER/NAME` on the Hub, or `pipe:` and a command in
            which {} stands for a file's name.
        shuffle_buffer: Number of crops from which each worker draws the next one at random.
        vtlp_factors: VTLP copies to use; None for all that the shards hold.
    """

    dir: str | None
    shuffle_buffer: int
    vtlp_factors: Sequence[float] | None

    def __post_init__(self) -> None:
        require_webdataset("data=shards")
        if self.dir is None:
            raise InputError("say where the shards are: data.dir=FOLDER or URL")
        super().__post_init__()
        require_at_least(1, "data", shuffle_buffer=self.shuffle_buffer)

    def build(self, needs: FeatureNeeds) -> "ShardsDataModule":
        """Make the data module."""
        return ShardsDataModule(needs, self)


class ShardsDataModule(TrainingDataModule):
    """A local or remote folder of shards as batches of mels and embeddings."""

    settings: ShardsSettings
    index: Index  # this and the next three are set by `setup`
    cropping: Cropping
    train: Shards
    val: Shards

    def __init__(self, needs: FeatureNeeds, settings: ShardsSettings):
        super().__init__(needs, settings)
        self.dir = str(settings.dir)
        self.shuffle_buffer = settings.shuffle_buffer if settings.shuffle else 0
        self.begun_at = START

    def setup(self, stage: str | None = None) -> None:
        """Read the index of the shards.

        Raises:
            InputError: The index cannot be read, or the shards do not fit this training run.
        """
        if hasattr(self, "index"):
            return  # the Trainer calls this again
        if containers.is_on_hub(self.dir):
            with needs_extra(f"data.dir={self.dir}:", "hub"):
                import huggingface_hub  # noqa: F401 - webdataset uses it
        index = read_index(self.dir)
        name = f"data.dir={self.dir}"
        require_same_settings(index.mel, self.mel.settings, name, "this training run")
        require_same_encoder(index.speaker_encoder, self.encoder_identity, name)
        self._require_features(index, name)
        held, wanted = index.vtlp_factors, self.settings.vtlp_factors
        for factor in wanted or ():
            if factor not in held:
                raise InputError(
                    f"data.vtlp_factors={factor}: the shards of {self.dir} hold only {held}; name "
                    "some of these, or write them again"
                )
        factors = held if wanted is None else wanted
        self.cropping = Cropping(self.settings, self.needs, factors, held)
        n_copies = 1 + len(held)
        self.train = Shards(self.dir, "train", index.train.shards, n_copies)
        self.val = Shards(self.dir, "val", index.val.shards, n_copies)
        self.index = index
        sizes = index.train.utterances, len(self.train), index.val.utterances, self.dir
        log.info("%d utterances in %d shards to train on, %d to validate: %s", *sizes)

    def _require_features(self, index: Index, name: str) -> None:
        """Raise InputError where the shards lack features that the network needs."""
        teacher, recogniser = self.needs.teacher, self.needs.recogniser
        if self.needs.f0 and index.pitch_tracker != pitch_tracker.NAME:
            raise InputError(
                f"{name}: the shards hold {_made_by('pitch', index.pitch_tracker)}, this training "
                f"run needs pitch of {pitch_tracker.NAME}; write them again, or train with "
                "model.f0=false"
            )
        if teacher is not None and index.teacher != teacher.identity:
            raise InputError(
                f"{name}: the shards hold {_made_by('teacher features', index.teacher)}, this "
                f"training run needs those of {teacher.identity}; write them again, or train with "
                "teacher=none"
            )
        if recogniser is not None and index.recogniser != recogniser.identity:
            raise InputError(
                f"{name}: the shards hold {_made_by('features to listen to', index.recogniser)}, "
                f"this network listens through {recogniser.identity}; write them again"
            )

    def mean_mel(self) -> Tensor:
        """Return the mean training mel (n_mels,), the constant output that a network must beat."""
        return torch.tensor(self.index.mean_mel)

    @property
    def teacher_std(self) -> Tensor:
        """Standard deviation (D,) of the teacher's features; D is 0 without a teacher."""
        return torch.tensor(self.index.teacher_std)

    @property
    def heard_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (D,) of what the recogniser hears; D is 0 without one."""
        return torch.tensor(self.index.heard_mean), torch.tensor(self.index.heard_std)

    def clean_acoustics(self) -> Tensor:
        """Return the acoustics of clean training recordings (N_ACOUSTICS,)."""
        return torch.tensor(self.index.clean_acoustics)

    def examples(self, n_speakers: int) -> list[Example]:
        """Read an utterance each of up to `n_speakers` speakers, of the first `MAX_SHOWN`."""
        by_speaker = {s.speaker: s for s in reversed(self._shown())}
        samples = [by_speaker[speaker] for speaker in sorted(by_speaker)][:n_speakers]
        return [Example.of(s.speaker, s) for s in samples]

    def embeddings(self, limit: int) -> tuple[Tensor, list[str]]:
        """Read embeddings (N, E) and speakers of up to `limit` utterances, at most `MAX_SHOWN`."""
        shown = self._shown()[:limit]
        return torch.stack([s.read_embedding() for s in shown]), [s.speaker for s in shown]

    def _shown(self) -> list[Sample]:
        """Read the first utterances, of the validation set if there is one."""
        return list(itertools.islice((self.val or self.train).read_all(), MAX_SHOWN))

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches of this process in an epoch, as if all shards had the same size."""
        n_batches = -(-self.index.train.utterances // (self.settings.batch_size * self.process[1]))
        return self.limited(n_batches)

    def train_dataloader(self) -> StreamLoader:
        """Load training batches; a reader with a smaller part of an epoch goes on to its next.

        Raises:
            InputError: There are fewer shards than readers.
        """
        n_processes, n_workers = self.process[1], max(1, self.settings.num_workers)
        n_shards = len(self.index.train.shards)
        if n_shards < n_processes * n_workers:
            raise InputError(
                f"data.dir={self.dir}: {n_shards} training shards are fewer than {n_processes} "
                f"processes × {n_workers} workers; lower data.num_workers or trainer.devices, or "
                "write smaller shards (prepare.py shards shard_megabytes=…)"
            )
        self.begun_at = self._position()
        stream = CropStream(
            self.train,
            MAX_EPOCHS,
            self.cropping,
            self.seed,
            self.shuffle_buffer,
            self.process,
            self.begun_at if self.shuffle_buffer else START,
        )
        options = self._batches() | self.loader_options(self.settings.num_workers)
        return StreamLoader(stream, self.batches_per_epoch, self.start[1], **options)

    def val_dataloader(self) -> DataLoader | list:
        """Load the validation set once."""
        # Every process reads the whole set: with a part each, their numbers of batches would
        # differ, and a process with more would wait forever for the others.
        if not self.index.val.utterances:
            return []
        stream = CropStream(self.val, 1, self.cropping.plain(), self.seed)
        options = self.loader_options(min(self.settings.num_workers, len(self.val)))
        return DataLoader(stream, **self._batches(), **options)

    def _batches(self) -> dict[str, Any]:
        return {"batch_size": self.settings.batch_size, "collate_fn": collate}

    def state_dict(self) -> dict:
        """Return the position in the shards, for `last.ckpt`.

        A training run with the same readers continues at the `Position` of `epoch` and `runs`; one
        with other readers continues at the next epoch, `epochs` being the number of epochs begun.
        """
        epoch, batch = self.start
        done = self.batches_done
        new = done - (epoch * self.batches_per_epoch + batch)
        return {
            "epochs": -(-done // self.batches_per_epoch),
            "batches": done,
            "epoch": self.begun_at.epoch,
            "runs": [*self.begun_at.runs, new],
            "readers": self._readers(),
        }

    @property
    def start(self) -> tuple[int, int]:
        """Epoch and batch in it at which `train_dataloader` begins: (0, 0) unless resumed."""
        if self.resumed is None:
            return 0, 0
        if self.resumed.get("readers") == self._readers():
            return divmod(self.resumed["batches"], self.batches_per_epoch)
        return self.resumed["epochs"], 0

    def _position(self) -> Position:
        """Return how far the run has read, according to a restored checkpoint if any."""
        resumed = self.resumed
        if resumed is None:
            return START
        if resumed.get("readers") == self._readers():
            log.info("reading shards from where the checkpoint was saved, see docs/cluster.md")
            return Position(resumed["epoch"], tuple(resumed["runs"]), self.settings.batch_size)
        log.info(
            "processes, workers or batches have changed: reading shards from epoch %d",
            resumed["epochs"],
        )
        return Position(resumed["epochs"])

    def _readers(self) -> list[int]:
        """List all numbers that decide what each reader has read after a number of batches."""
        n_workers, batch_size = max(1, self.settings.num_workers), self.settings.batch_size
        numbers = self.process[1], n_workers, batch_size, self.shuffle_buffer, self.seed
        return [*numbers, *self.index.train.shards]


def _made_by(features: str, maker: str | None) -> str:
    """Describe features and the model that made them, for an error."""
    return f"no {features}" if maker is None else f"{features} of {maker}"
