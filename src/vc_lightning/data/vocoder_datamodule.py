"""Recordings as batches for a vocoder: crops of mels with their waveforms."""

from collections.abc import Sequence

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.errors import require_at_least
from vc_lightning.data.base_datamodule import RecordingsDataModule, use_bf16
from vc_lightning.data.feature_extraction import FeatureCache
from vc_lightning.data.manifest import Utterance
from vc_lightning.data.reconstruction import reconstruct
from vc_lightning.data.vocoder_crops import VocoderCrops
from vc_lightning.models.speaker_encoder import SpeakerEncoder


class VocoderDataModule(RecordingsDataModule):
    """Crops of mels with their waveforms and context frames on both sides.

    The arguments that are not listed here are those of `RecordingsDataModule`.

    Args:
        mel: Makes the mels.
        speaker_encoder: Makes the embeddings, which the audit and `mels_from` need.
        encoder_identity: Name of the speaker encoder's weights.
        with_f0: Whether the vocoder needs the pitch as well.
        cache_dir: Folder of the feature cache, shared by all data sets and runs.
        max_seconds: Longer recordings are cut into segments at pauses.
        feature_precision: Precision of the speaker embeddings, see `VoiceDataModule`.
        crop_frames: Length of the crops in mel frames.
        context_frames: Number of further frames on each side that the vocoder needs.
        mels_from: AutoVC file whose reconstructions replace the recordings' mels, so that the
            vocoder is trained on mels as blurred as those of conversions; None keeps the mels.
    """

    def __init__(
        self,
        mel: MelSpectrogram,
        speaker_encoder: SpeakerEncoder,
        encoder_identity: str,
        *,
        with_f0: bool,
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
        crop_frames: int,
        context_frames: int,
        mels_from: str | None,
    ):
        require_at_least(1, "data", crop_frames=crop_frames)
        require_at_least(0, "data", context_frames=context_frames)
        features = FeatureCache(
            cache_dir,
            mel,
            speaker_encoder,
            encoder_identity,
            max_seconds=max_seconds,
            bf16=use_bf16(feature_precision),
            keep_wavs=True,
            with_f0=with_f0,
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
        self.context_frames = context_frames
        self.mels_from = mels_from

    def setup(self, stage: str | None = None) -> None:
        """Prepare the recordings and, with `mels_from`, their reconstructions."""
        if self.train:
            return  # the Trainer calls this again
        super().setup(stage)
        if self.mels_from is not None:
            segments = [u.segment for u in self.train + self.val]
            self.files = reconstruct(self.mels_from, segments, self.files, self.mel)

    def make_crops(self, utterances: list[Utterance], training: bool) -> VocoderCrops:
        """Make the data set of random crops, the same for training and validation."""
        return VocoderCrops(
            utterances, self.files, self.crop_frames, self.context_frames, self.seed
        )
