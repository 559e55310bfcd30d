"""Recordings as batches for the converter: crops of mels with speaker embeddings."""

from collections.abc import Sequence

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.errors import InputError, require_at_least, require_one_of
from vc_lightning.data.base_datamodule import RecordingsDataModule, use_bf16
from vc_lightning.data.crops import (
    NO_COPIES,
    Augmentation,
    Crops,
    choose_copies,
    speaker_embeddings,
)
from vc_lightning.data.feature_extraction import FeatureCache
from vc_lightning.data.manifest import Utterance
from vc_lightning.models.recogniser import Recogniser
from vc_lightning.models.speaker_encoder import SpeakerEncoder
from vc_lightning.models.teachers import Teacher

SPEAKER_EMBEDDINGS = ("utterance", "speaker")


class VoiceDataModule(RecordingsDataModule):
    """Crops of mels with embeddings, VTLP copies, pitch and a teacher's features.

    The class name is a key in `last.ckpt` files: do not rename it.

    The arguments that are not listed here are those of `RecordingsDataModule`.

    Args:
        mel: Makes the mels.
        speaker_encoder: Makes the embeddings.
        encoder_identity: Name of the speaker encoder's weights.
        with_f0: Whether the pitch is needed, for a network with F0 inputs.
        teacher: Speech recogniser whose features the codes learn to predict, or None.
        recogniser: The recogniser that the network listens through, or None.
        with_acoustics: Whether the network uses the acoustics of the targets.
        cache_dir: Folder of the feature cache, shared by all data sets and runs.
        max_seconds: Longer recordings are cut into segments at pauses.
        feature_precision: Precision of the speaker embeddings: "32"; "bf16", whose embeddings have
            a cosine above 0.999 to those of "32"; or "auto", bf16 where the CPU supports it.
        crop_frames: Length of random crops in mel frames; None gives whole utterances.
        speaker_embedding: "utterance", each utterance's own, or "speaker", the speaker's mean.
        vtlp_factors: Factors by which VTLP copies stretch the frequency axis. A copy as the
            encoder's input has another voice than the target, so codes must not carry the voice.
        vtlp_probability: Share of the crops whose input is a copy.
        vtlp_target_factors: The `vtlp_factors` whose copies may also be the target, as if recorded
            by further speakers.
        vtlp_target_probability: Share of the crops in which the target is a copy.
        augmentations: Further changes to the encoder's input, see `augmentations`.
    """

    def __init__(
        self,
        mel: MelSpectrogram,
        speaker_encoder: SpeakerEncoder,
        encoder_identity: str,
        with_f0: bool = False,
        teacher: Teacher | None = None,
        recogniser: Recogniser | None = None,
        with_acoustics: bool = False,
        *,
        cache_dir: str,
        max_seconds: float,
        feature_precision: str | int,
        dir: str | None,
        manifest: str | None,
        exclude: str | Sequence[str],
        minutes_per_speaker: float | None,
        val_fraction: float,
        val_speakers: int | str | Sequence[str | int],
        sampling: str,
        batch_size: int,
        shuffle: bool,
        num_workers: int,
        pin_memory: bool,
        seed: int,
        crop_frames: int | None,
        speaker_embedding: str,
        vtlp_factors: Sequence[float],
        vtlp_probability: float,
        vtlp_target_factors: Sequence[float],
        vtlp_target_probability: float,
        augmentations: Sequence[Augmentation],
    ):
        self.copies = choose_copies(
            list(vtlp_factors),
            vtlp_probability,
            list(vtlp_target_factors),
            vtlp_target_probability,
            available=list(vtlp_factors),
        )
        if crop_frames is not None:
            require_at_least(1, "data", crop_frames=crop_frames)
        require_one_of(SPEAKER_EMBEDDINGS, "data", speaker_embedding=speaker_embedding)
        for augmentation in augmentations:
            if not callable(augmentation):
                raise InputError(
                    f"data.augmentations: {augmentation} is not an augmentation; see data=augmented"
                )
        features = FeatureCache(
            cache_dir,
            mel,
            speaker_encoder,
            encoder_identity,
            vtlp_factors=list(vtlp_factors),
            max_seconds=max_seconds,
            bf16=use_bf16(feature_precision),
            with_f0=with_f0,
            teacher=teacher,
            recogniser=recogniser,
        )
        super().__init__(
            features,
            dir=dir,
            manifest=manifest,
            exclude=exclude,
            minutes_per_speaker=minutes_per_speaker,
            val_fraction=val_fraction,
            val_speakers=val_speakers,
            sampling=sampling,
            batch_size=batch_size,
            shuffle=shuffle,
            num_workers=num_workers,
            pin_memory=pin_memory,
            seed=seed,
        )
        self.encoder_identity = encoder_identity
        self.crop_frames = crop_frames
        self.speaker_embedding = speaker_embedding
        self.with_acoustics = with_acoustics
        self.augmentations = list(augmentations)

    def make_crops(self, utterances: list[Utterance], training: bool) -> Crops:
        """Make the data set of random crops; validation gets neither copies nor augmentations."""
        embeddings = None
        if self.speaker_embedding == "speaker":
            average = self.features.speaker_encoder.average
            embeddings = speaker_embeddings(utterances, self.files, average)
        return Crops(
            utterances,
            self.files,
            self.crop_frames,
            self.seed,
            self.copies if training else NO_COPIES,
            self.augmentations if training else (),
            embeddings,
            self.with_acoustics,
        )
