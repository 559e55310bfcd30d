"""Settings that the data modules share, as `conf/data/parts` groups them.

The settings of each data module stand beside it. Hydra builds them from `data=`; their `build`
makes the data module, once it is known which features the network needs.
"""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vc_lightning.common.errors import (
    InputError,
    require_at_least,
    require_one_of,
    require_seed,
    require_share,
    require_within,
)
from vc_lightning.common.precision import has_bfloat16_products
from vc_lightning.data.augmentations import Augmentation
from vc_lightning.data.crops.order import SAMPLINGS
from vc_lightning.data.features.cache import FeatureCache
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.data.manifest import AudioFile, find_audio_files, limit_minutes, read_manifest

FEATURE_PRECISIONS = ("auto", "bf16", "32")


@dataclass(frozen=True, kw_only=True)
class LoadingSettings:
    """How batches are loaded.

    Attributes:
        batch_size: Size of the training batches of one process.
        shuffle: Whether each epoch has a random order of its own.
        num_workers: Number of processes that load data and compute features.
        pin_memory: Whether batches are copied to page-locked memory on a machine with a GPU.
        seed: Seed of split, order and crops.
    """

    batch_size: int
    shuffle: bool
    num_workers: int
    pin_memory: bool
    seed: int

    def __post_init__(self) -> None:
        require_at_least(1, "data", batch_size=self.batch_size)
        require_at_least(0, "data", num_workers=self.num_workers)
        require_seed("data.seed", self.seed)


@dataclass(frozen=True, kw_only=True)
class CropSettings(LoadingSettings):
    """Crops for the converter.

    Attributes:
        crop_frames: Length of random crops in mel frames; None gives whole utterances.
        vtlp_probability: Share of the crops whose input is a VTLP copy.
        vtlp_target_factors: The `vtlp_factors` whose copies may also be the target, as if recorded
            by further speakers.
        vtlp_target_probability: Share of the crops in which the target is a copy.
        augmentations: Further changes to the encoder's input, see `augmentations`.
        reference_frames: Most frames around a crop from which a network with `dim_reference` takes
            the detail of the voice.
    """

    crop_frames: int | None
    vtlp_probability: float
    vtlp_target_factors: Sequence[float]
    vtlp_target_probability: float
    augmentations: Sequence[Augmentation]
    reference_frames: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, "data", reference_frames=self.reference_frames)
        if self.crop_frames is not None:
            require_at_least(1, "data", crop_frames=self.crop_frames)
        for name in ("vtlp_probability", "vtlp_target_probability"):
            require_share("data", **{name: getattr(self, name)})
        for augmentation in self.augmentations:
            if not callable(augmentation):
                raise InputError(
                    f"data.augmentations: {augmentation} is not an augmentation; see data=augmented"
                )


@dataclass(frozen=True, kw_only=True)
class RecordingSettings(LoadingSettings):
    """The recordings, their features and their split.

    Attributes:
        dir: Folder of audio files; with a manifest, the folder that its paths are relative to.
        manifest: Table with the columns path, speaker and split.
        exclude: Patterns of file names to leave out, such as "*_mic2.flac".
        minutes_per_speaker: Minutes used of each speaker; None uses all.
        max_seconds: Longer recordings are cut into segments at pauses.
        cache_dir: Folder of the feature cache, shared by all data sets and runs.
        feature_precision: Precision of speaker embeddings and of the recogniser's features: "32";
            "bf16", whose embeddings have a cosine above 0.999 to those of "32", and whose features
            differ by 1 %, see `Recogniser.use_bfloat16`; or "auto", bf16 where the CPU multiplies
            much faster so.
        val_fraction: Share of the utterances held out where no manifest names a validation set.
        val_speakers: Speakers held out whole: their names, or how many.
        sampling: Unit drawn with equal probability: "utterance", "duration" or "speaker", see
            `order.shares`.
    """

    dir: str | None
    manifest: str | None
    exclude: str | Sequence[str]
    minutes_per_speaker: float | None
    max_seconds: float
    cache_dir: str
    feature_precision: str | int
    val_fraction: float
    val_speakers: int | str | Sequence[str | int]
    sampling: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.dir and self.manifest is None:
            raise InputError("say what to train on: data.dir=FOLDER or data.manifest=TABLE")
        if self.minutes_per_speaker is not None:
            minutes = self.minutes_per_speaker
            require_within(0, float("inf"), "data", minutes_per_speaker=minutes)
        require_within(0, 1, "data", val_fraction=self.val_fraction)
        if not isinstance(self.val_speakers, str | Sequence):
            require_at_least(0, "data", val_speakers=self.val_speakers)
        require_one_of(SAMPLINGS, "data", sampling=self.sampling)
        precision = str(self.feature_precision)
        require_one_of(FEATURE_PRECISIONS, "data", feature_precision=precision)

    def list_files(self) -> list[AudioFile]:
        """List the recordings, without reading them.

        Raises:
            InputError: No recording is left, or the manifest is unreadable.
        """
        if self.manifest is None:
            listed = find_audio_files(Path(str(self.dir)))
        else:
            listed = read_manifest(Path(self.manifest), Path(self.dir) if self.dir else None)
        patterns = [self.exclude] if isinstance(self.exclude, str) else self.exclude
        kept = [r for r in listed if not any(fnmatch.fnmatch(r.path.name, p) for p in patterns)]
        if not kept:
            raise InputError(
                f"data.exclude={patterns}: leaves out all {len(listed)} files; name fewer patterns"
            )
        minutes = self.minutes_per_speaker
        return kept if minutes is None else limit_minutes(kept, minutes)

    def cache(
        self, needs: FeatureNeeds, vtlp_factors: Sequence[float] = (), keep_wavs: bool = False
    ) -> FeatureCache:
        """Open the feature cache; see `FeatureCache` for the arguments."""
        precision = str(self.feature_precision)
        bf16 = has_bfloat16_products() if precision == "auto" else precision == "bf16"
        return FeatureCache(self.cache_dir, needs, vtlp_factors, self.max_seconds, bf16, keep_wavs)
