"""Recordings as batches for the converter: crops of mels with speaker embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch.utils.data import DataLoader

from vc_lightning.common.errors import require_one_of, require_share
from vc_lightning.data.crops.mel import Cropping, Crops, collate, speaker_embeddings
from vc_lightning.data.features.conversions import convert
from vc_lightning.data.features.files import CachedFeatures
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.data.manifest import Utterance
from vc_lightning.data.modules.base import is_first_process
from vc_lightning.data.modules.recordings import RecordingsDataModule
from vc_lightning.data.settings import CropSettings, RecordingSettings

SPEAKER_EMBEDDINGS = ("utterance", "speaker")


@dataclass(frozen=True, kw_only=True)
class VoiceSettings(CropSettings, RecordingSettings):
    """Settings of `data=folder`.

    Attributes:
        speaker_embedding: "utterance", each utterance's own, or "speaker", the speaker's mean.
        vtlp_factors: Factors by which VTLP copies stretch the frequency axis. A copy as the
            encoder's input has another voice than the target, so codes must not carry the voice.
        conversions_from: AutoVC file, or "shipped", that converts every recording into the voice
            of another speaker, for the encoder to hear; None for no conversions.
        conversions_share: Share of the crops whose input is such a conversion, drawn before
            `vtlp_probability`.
    """

    speaker_embedding: str
    vtlp_factors: Sequence[float]
    conversions_from: str | None
    conversions_share: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share("data", conversions_share=self.conversions_share)
        require_one_of(SPEAKER_EMBEDDINGS, "data", speaker_embedding=self.speaker_embedding)

    def build(self, needs: FeatureNeeds) -> "VoiceDataModule":
        """Make the data module."""
        return VoiceDataModule(needs, self)


class VoiceDataModule(RecordingsDataModule):
    """Crops of mels with embeddings, copies in other voices, pitch and a teacher's features.

    The class name is a key in `last.ckpt` files: do not rename it.
    """

    settings: VoiceSettings

    def __init__(self, needs: FeatureNeeds, settings: VoiceSettings):
        factors = settings.vtlp_factors
        share = settings.conversions_share if settings.conversions_from else 0.0
        self.cropping = Cropping(settings, needs, factors, factors, share)
        super().__init__(needs, settings, settings.cache(needs, factors))
        self.speaker_embedding = settings.speaker_embedding

    def setup(self, stage: str | None = None) -> None:
        """Prepare the recordings and, with `conversions_from`, their conversions."""
        if self.train:
            return  # the Trainer calls this again
        super().setup(stage)
        path = self.settings.conversions_from
        if path is not None:
            workers = self.settings.num_workers
            shows = is_first_process()
            self.files = convert(path, self.train, self.files, self.mel, workers, shows)

    def train_dataloader(self) -> DataLoader:
        """Load training batches."""
        crops = Crops(self.features_of(self.train), self.cropping, self.seed)
        return self.train_loader(crops, collate)

    def val_dataloader(self) -> DataLoader | list:
        """Load validation batches, without copies and augmentations."""
        crops = Crops(self.features_of(self.val), self.cropping.plain(), self.seed)
        return self.val_loader(crops, collate)

    def features_of(self, utterances: Sequence[Utterance]) -> list[CachedFeatures]:
        """Return the features of utterances, with the embeddings of `speaker_embedding`."""
        voices = {}
        if self.speaker_embedding == "speaker":
            average = self.needs.speaker_encoder.average
            voices = speaker_embeddings(utterances, self.files, average)
        return [self.files.of(u.segment, voices.get(u.speaker)) for u in utterances]
