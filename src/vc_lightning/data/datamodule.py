"""Recordings as a LightningDataModule: crops of cached mels, in an order that can be repeated."""

import functools
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torch.utils.data import DataLoader

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.errors import (
    InputError,
    require_at_least,
    require_flag,
    require_one_of,
    require_seed,
    require_within,
)
from vc_lightning.common.precision import best_precision
from vc_lightning.data.crops import (
    NO_WARPING,
    Augmentation,
    Crops,
    Example,
    Warping,
    collate,
    outlive_signals,
    speaker_voices,
    warping_of,
)
from vc_lightning.data.feature_extraction import FeatureCache
from vc_lightning.data.manifest import Utterance, list_utterances, split_utterances
from vc_lightning.data.reconstruction import reconstruct
from vc_lightning.data.sampling import SAMPLINGS, EndlessBatches, EpochBatches, shares
from vc_lightning.data.vocoder_segments import Segments
from vc_lightning.models.speaker_encoder import SpeakerEncoder
from vc_lightning.models.teachers import Teacher

log = logging.getLogger(__name__)

MEAN_MEL_UTTERANCES = 500  # enough that the mean mel no longer moves
FEATURE_PRECISIONS = ("auto", "bf16", "32")
SPEAKER_EMBEDDINGS = ("utterance", "speaker")


class VoiceDataModule(LightningDataModule):
    """Any folder of recordings, or a manifest of them, as batches of mels and embeddings.

    Args:
        mel, speaker_encoder, encoder_identity: what makes the features, see `FeatureCache`.
        with_f0: whether the network is told the pitch, so that its contours are features as well.
        teacher: who teaches the encoder, so that its features are needed as well.
        cache_dir: where the features are kept, shared by all data sets and runs.
        dir: folder of audio; with a manifest, what its paths are relative to.
        manifest: table of path, speaker and split.
        exclude: patterns of file names to leave out, such as "*_mic2.flac".
        max_seconds: longer recordings are cut into pieces at pauses.
        feature_precision: of the speaker embeddings: "32", "bf16" (cosine above 0.999 to them),
            or "auto", which is bf16 where the processor has it.
        check: whether the doctor's report takes the place of the training, see `doctor`.
        batch_size, shuffle, num_workers, pin_memory: of the training batches of one process.
        sampling: what is as likely to be drawn, see `sampling.shares`.
        crop_frames: length of random crops in mel frames; None gives whole utterances.
        speaker_embedding: "utterance", every one's own, or "speaker", the mean of all of them.
        warps: factors of copies with a stretched frequency axis, one of which the encoder hears in
            warp_probability of the crops, so that codes which carry the voice do not help;
            voice_warps, those that the decoder has to give in voice_warp_probability of them.
        augmentations: what else is done to what the encoder hears, see `augmentations`.
        val_fraction, val_speakers: what is held out where no manifest says it.
        minutes_per_speaker: how much of every speaker is used; None for all.
        context_frames: gives batches of mel and sound for a vocoder, segments of crop_frames with
            so many more on each side; None gives the converter's batches of mels and embeddings.
        mels_from: an AutoVC file through which the vocoder's mels are sent.
        seed: of split, order and crops.
        write_shards: folder for the features as `shards`, of at most shard_megabytes and
            shard_utterances each, in place of a training.
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
        manifest: str | None,
        exclude: Sequence[str],
        cache_dir: str,
        max_seconds: float,
        feature_precision: str | int,
        check: bool,
        batch_size: int,
        shuffle: bool,
        num_workers: int,
        pin_memory: bool,
        sampling: str,
        crop_frames: int | None,
        speaker_embedding: str,
        warps: Sequence[float],
        warp_probability: float,
        voice_warps: Sequence[float],
        voice_warp_probability: float,
        augmentations: Sequence[Augmentation],
        val_fraction: float,
        val_speakers: int | str | Sequence[str | int],
        minutes_per_speaker: float | None,
        context_frames: int | None,
        mels_from: str | None,
        seed: int,
        write_shards: str | None,
        shard_megabytes: float,
        shard_utterances: int,
    ):
        super().__init__()
        if dir is None and manifest is None:
            raise InputError("say what to train on: data.dir=FOLDER or data.manifest=TABLE")
        require_at_least(1, "data", batch_size=batch_size)
        require_at_least(0, "data", num_workers=num_workers, context_frames=context_frames or 0)
        require_seed("data.seed", seed)
        if not isinstance(val_speakers, str | Sequence):
            require_at_least(0, "data", val_speakers=val_speakers)
        require_within(0, 1, "data", val_fraction=val_fraction)
        self.warping = warping_of(
            list(warps), warp_probability, list(voice_warps), voice_warp_probability, list(warps)
        )
        require_within(2, 3600, "data", max_seconds=max_seconds)
        if crop_frames is not None:
            require_at_least(1, "data", crop_frames=crop_frames)
        if context_frames is not None and crop_frames is None:
            raise InputError("data.crop_frames=null: a vocoder needs segments of one length")
        if mels_from is not None and context_frames is None:
            raise InputError("data.mels_from: is for vocoders; see experiment=wavernn")
        if minutes_per_speaker is not None:
            require_within(0, float("inf"), "data", minutes_per_speaker=minutes_per_speaker)
        require_within(0.001, float("inf"), "data", shard_megabytes=shard_megabytes)
        require_at_least(1, "data", shard_utterances=shard_utterances)
        require_one_of(SAMPLINGS, "data", sampling=sampling)
        require_one_of(SPEAKER_EMBEDDINGS, "data", speaker_embedding=speaker_embedding)
        for name, flag in {"check": check, "shuffle": shuffle, "pin_memory": pin_memory}.items():
            require_flag(f"data.{name}", flag)
        for augmentation in augmentations:
            if not callable(augmentation):
                raise InputError(
                    f"data.augmentations: {augmentation} is no augmentation; see data=augmented"
                )
        require_one_of(FEATURE_PRECISIONS, "data", feature_precision=str(feature_precision))
        if feature_precision == "auto":
            feature_precision = best_precision("cpu").removesuffix("-mixed")
        self.features = FeatureCache(
            Path(cache_dir),
            mel,
            speaker_encoder,
            encoder_identity,
            list(warps),
            max_seconds,
            feature_precision == "bf16",
            context_frames is not None,
            with_f0,
            teacher,
        )
        self.files = self.features.files
        self.context_frames = context_frames
        self.mels_from = mels_from
        self.encoder_identity = encoder_identity
        self.dir = Path(dir) if dir is not None else None
        self.manifest = Path(manifest) if manifest is not None else None
        self.exclude = [exclude] if isinstance(exclude, str) else list(exclude)
        self.check = check
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.num_workers = num_workers
        self.pin_memory = pin_memory and torch.cuda.is_available()
        self.sampling = sampling
        self.crop_frames = crop_frames
        self.speaker_embedding = speaker_embedding
        self.augmentations = list(augmentations)
        self.val_fraction = val_fraction
        self.val_speakers = val_speakers
        self.minutes_per_speaker = minutes_per_speaker
        self.seed = seed
        self.write_shards = write_shards
        self.shard_megabytes = shard_megabytes
        self.shard_utterances = shard_utterances
        self.train: list[Utterance] = []
        self.val: list[Utterance] = []
        self.unusable: dict[Path, str] = {}
        self.resumed: dict | None = None

    def setup(self, stage: str | None = None) -> None:
        """Finds the recordings, computes the features that are missing, divides the utterances."""
        if self.train:
            return  # the Trainer calls this again
        listed = list_utterances(self.dir, self.manifest, self.exclude, self.minutes_per_speaker)
        pieces, self.unusable = self.features.prepare(
            list(dict.fromkeys(u.path for u in listed)),
            self.num_workers,
            show_progress=rank_zero_only.rank == 0,
        )
        for path, reason in self.unusable.items():
            log.warning("skipped %s: %s", path, reason)
        usable = [replace(u, piece=piece) for u in listed for piece in pieces.get(u.path, [])]
        place = self.manifest or self.dir
        if not usable:
            raise InputError(f"{place}: none of {len(listed)} files is usable")
        self.train, self.val = split_utterances(
            usable, self.val_fraction, self.val_speakers, self.seed
        )
        if not self.train:
            raise InputError(f"{place}: no utterance is left for training")
        if self.mels_from is not None:
            pieces = [u.piece for u in self.train + self.val]
            self.files = reconstruct(self.mels_from, pieces, self.files, self.mel)
        if not self.val:
            log.warning(
                "no validation: data.val_fraction=%s of %d utterances spares none; "
                "raise it or see data.val_speakers",
                self.val_fraction,
                len(self.train),
            )
        if self.unusable:
            log.warning("%d of %d files were skipped", len(self.unusable), len(listed))
        lost = {u.speaker for u in listed} - {u.speaker for u in usable}
        if lost:
            log.warning("speakers without a usable file: %s", ", ".join(sorted(lost)[:10]))

    @functools.cached_property  # every checkpoint asks for it
    def fingerprint(self) -> str:
        """Changes with what there is to train on and in which order it is drawn."""
        order = (self.seed, self.shuffle, self.sampling, self.batch_size, self._process[1])
        digest = hashlib.sha256(repr(order).encode())
        for utterance in self.train:
            digest.update(f"{utterance.piece.content} {utterance.piece.index}\n".encode())
        return digest.hexdigest()[:16]

    def mean_mel(self) -> Tensor:
        """Mean training mel (n_mels,): what the networks have to beat."""
        utterances = self._sampled()
        total = sum(self.files.read_mel(u.piece, 0, u.n_frames).sum(dim=-1) for u in utterances)
        return total / sum(u.n_frames for u in utterances)

    @functools.cached_property
    def teacher_std(self) -> Tensor:
        """Standard deviation (D,) of the teacher's features; D is 0 without a teacher."""
        squares = [
            self.files.read_teacher(u.piece, 0, u.n_frames).square() for u in self._sampled()
        ]
        return torch.cat(squares).mean(dim=0).sqrt()  # the mean of every recording is 0

    def _sampled(self) -> list[Utterance]:
        """Training utterances, enough for means over all of them."""
        rng = np.random.default_rng(self.seed)
        chosen = rng.permutation(len(self.train))[:MEAN_MEL_UTTERANCES]
        return [self.train[index] for index in chosen]

    @property
    def mel(self) -> MelSpectrogram:
        """What made the mels."""
        return self.features.mel

    def examples(self, n_speakers: int) -> list[Example]:
        """An utterance of each of the first speakers, held out ones where there are any."""
        by_speaker = {u.speaker: u for u in reversed(self.val or self.train)}
        chosen = [by_speaker[speaker] for speaker in sorted(by_speaker)][:n_speakers]
        files = self.files
        mels = [files.read_mel(u.piece, 0, u.n_frames) for u in chosen]
        voices = [files.read_embedding(u.piece) for u in chosen]
        pitches = [files.read_f0(u.piece, 0, u.n_frames) for u in chosen]
        return list(map(Example, [u.speaker for u in chosen], mels, voices, pitches))

    def embeddings(self, limit: int) -> tuple[Tensor, list[str]]:
        """Embeddings (N, E) of some utterances, held out ones first, and whose they are."""
        shown = (self.val + self.train)[:limit]
        embeddings = [self.files.read_embedding(u.piece) for u in shown]
        return torch.stack(embeddings), [u.speaker for u in shown]

    def train_dataloader(self) -> DataLoader:
        batches = EndlessBatches(self.train_batches(), self._first_batch())
        return self._loader(self.train, batches, self.warping, self.augmentations)

    def train_batches(self) -> EpochBatches:
        """The batches of an epoch that this process trains on."""
        likely = shares(self.train, self.sampling)
        return EpochBatches(
            len(self.train), self.batch_size, self.shuffle, self.seed, likely, *self._process
        )

    @property
    def batches_per_epoch(self) -> int:
        """How many batches of this process are an epoch."""
        return len(self.train_batches())

    def val_dataloader(self) -> DataLoader | list:
        if len(self.val) < self._process[1]:
            return []
        batches = EpochBatches(
            len(self.val), self.batch_size, False, self.seed, None, *self._process
        )
        return self._loader(self.val, batches, NO_WARPING, [])

    @property
    def _process(self) -> tuple[int, int]:
        """Which process this is, and of how many."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def state_dict(self) -> dict:
        done = self.trainer.global_step * self.trainer.accumulate_grad_batches
        return {"batches": done, "epoch_batches": len(self.train_batches()), "of": self.fingerprint}

    def load_state_dict(self, state_dict: dict) -> None:
        self.resumed = state_dict

    def _first_batch(self) -> int:
        """How many batches were trained on before: none unless a checkpoint was restored."""
        if self.resumed is None:
            return 0
        if self.resumed["of"] == self.fingerprint:
            return self.resumed["batches"]
        log.warning("the training data or their order are no longer the same; a new epoch begins")
        epochs = -(-self.resumed["batches"] // self.resumed["epoch_batches"])
        return epochs * len(self.train_batches())

    def _loader(
        self,
        utterances: list[Utterance],
        batches: EpochBatches | EndlessBatches,
        warping: Warping,
        augmentations: Sequence[Augmentation],
    ) -> DataLoader:
        if self.context_frames is not None:
            examples = Segments(
                utterances, self.files, self.crop_frames, self.context_frames, self.seed
            )
            stack = examples.collate
        else:
            voices = None
            if self.speaker_embedding == "speaker":
                average = self.features.speaker_encoder.average
                voices = speaker_voices(utterances, self.files, average)
            examples = Crops(
                utterances,
                self.files,
                self.crop_frames,
                self.seed,
                warping,
                augmentations,
                voices,
            )
            stack = collate
        return DataLoader(
            examples,
            batch_sampler=batches,
            num_workers=min(self.num_workers, len(utterances)),
            persistent_workers=self.num_workers > 0,
            pin_memory=self.pin_memory,
            collate_fn=stack,
            worker_init_fn=outlive_signals,
        )
