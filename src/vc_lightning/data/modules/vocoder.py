"""Recordings as batches for a vocoder: crops of mels with their waveforms."""

from dataclasses import dataclass

from torch.utils.data import DataLoader

from vc_lightning.common.errors import require_at_least, require_share, require_within
from vc_lightning.data.crops.vocoder import VocoderCrops, collate
from vc_lightning.data.features.files import CachedFeatures, FeatureFiles
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.data.features.reconstruction import reconstruct
from vc_lightning.data.manifest import Utterance
from vc_lightning.data.modules.recordings import RecordingsDataModule
from vc_lightning.data.settings import RecordingSettings

MAX_CONTEXT_FRAMES = 1000  # no vocoder needs so many


@dataclass(frozen=True, kw_only=True)
class VocoderSettings(RecordingSettings):
    """Settings of `data=vocoder`.

    Attributes:
        crop_frames: Length of the crops in mel frames.
        context_frames: Number of further frames on each side that the vocoder needs.
        mels_from: AutoVC file whose reconstructions replace the recordings' mels, so that the
            vocoder is trained on mels like those of conversions; None keeps the mels.
        mels_from_share: Share of the crops with such mels; the others keep those of recordings.
    """

    crop_frames: int
    context_frames: int
    mels_from: str | None
    mels_from_share: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(1, "data", crop_frames=self.crop_frames)
        require_within(0, MAX_CONTEXT_FRAMES, "data", context_frames=self.context_frames)
        require_share("data", mels_from_share=self.mels_from_share)

    def build(self, needs: FeatureNeeds) -> "VocoderDataModule":
        """Make the data module."""
        return VocoderDataModule(needs, self)


class VocoderDataModule(RecordingsDataModule):
    """Crops of mels with their waveforms and context frames on both sides.

    The vocoder needs no embeddings, but the audit and `mels_from` do.
    """

    settings: VocoderSettings

    def __init__(self, needs: FeatureNeeds, settings: VocoderSettings):
        super().__init__(needs, settings, settings.cache(needs, keep_wavs=True))
        self.reconstructed: FeatureFiles | None = None

    def setup(self, stage: str | None = None) -> None:
        """Prepare the recordings and, with `mels_from`, their reconstructions."""
        if self.train:
            return  # the Trainer calls this again
        super().setup(stage)
        if self.settings.mels_from is not None:
            segments = [u.segment for u in self.train + self.val]
            path = self.settings.mels_from
            self.reconstructed = reconstruct(path, segments, self.files, self.mel)

    def train_dataloader(self) -> DataLoader:
        """Load training batches."""
        return self.train_loader(self._crops(self.train), collate)

    def val_dataloader(self) -> DataLoader | list:
        """Load validation batches."""
        return self.val_loader(self._crops(self.val), collate)

    def _crops(self, utterances: list[Utterance]) -> VocoderCrops:
        features = [self.files.of(utterance.segment) for utterance in utterances]
        reconstructed: list[CachedFeatures] = []
        if self.reconstructed is not None:
            reconstructed = [self.reconstructed.of(utterance.segment) for utterance in utterances]
        settings = self.settings
        return VocoderCrops(
            features,
            settings.crop_frames,
            settings.context_frames,
            self.seed,
            reconstructed,
            settings.mels_from_share,
        )
