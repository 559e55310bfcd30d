"""Recordings as batches for the converter: crops of mels with speaker embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from vc_lightning.common.errors import require_one_of
from vc_lightning.data.crops.mel import Crops, speaker_embeddings
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.data.manifest import Utterance
from vc_lightning.data.modules.recordings import RecordingsDataModule
from vc_lightning.data.modules.settings import CropSettings, RecordingSettings

SPEAKER_EMBEDDINGS = ("utterance", "speaker")


@dataclass(frozen=True, kw_only=True)
class VoiceSettings(CropSettings, RecordingSettings):
    """Settings of `data=folder`.

    Attributes:
        speaker_embedding: "utterance", each utterance's own, or "speaker", the speaker's mean.
        vtlp_factors: Factors by which VTLP copies stretch the frequency axis. A copy as the
            encoder's input has another voice than the target, so codes must not carry the voice.
    """

    speaker_embedding: str
    vtlp_factors: Sequence[float]

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of(SPEAKER_EMBEDDINGS, "data", speaker_embedding=self.speaker_embedding)

    def build(self, needs: FeatureNeeds) -> "VoiceDataModule":
        """Make the data module."""
        return VoiceDataModule(needs, self)


class VoiceDataModule(RecordingsDataModule):
    """Crops of mels with embeddings, VTLP copies, pitch and a teacher's features.

    The class name is a key in `last.ckpt` files: do not rename it.

    Args:
        needs: The features that the network needs.
        settings: The settings.
    """

    def __init__(self, needs: FeatureNeeds, settings: VoiceSettings):
        factors = settings.vtlp_factors
        self.cropping = settings.cropping(needs, factors, factors)
        super().__init__(needs, settings, settings.cache(needs, factors))
        self.speaker_embedding = settings.speaker_embedding

    def make_crops(self, utterances: list[Utterance], training: bool) -> Crops:
        """Make the data set of random crops; validation gets neither copies nor augmentations."""
        cropping = self.cropping if training else self.cropping.plain()
        return Crops(utterances, self.files, cropping, self.seed, self.voices(utterances))

    def voices(self, utterances: Sequence[Utterance]) -> dict[str, Tensor]:
        """Average the embeddings of each speaker, if these replace the utterances' own; else {}."""
        if self.speaker_embedding == "utterance":
            return {}
        return speaker_embeddings(utterances, self.files, self.needs.speaker_encoder.average)
