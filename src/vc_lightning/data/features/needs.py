"""What a network needs of every recording, and the models that compute it."""

from dataclasses import dataclass

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.models.recogniser import Recogniser
from vc_lightning.models.speaker_encoder import SpeakerEncoder
from vc_lightning.models.teachers import Teacher


@dataclass(frozen=True)
class FeatureNeeds:
    """The features that a network needs, and the models that compute them.

    Attributes:
        mel: Makes the mels.
        speaker_encoder: Makes the embeddings.
        encoder_identity: Name of the speaker encoder's weights.
        f0: Whether the pitch is needed.
        teacher: Speech recogniser whose features the codes learn to predict, or None.
        recogniser: Recogniser that the network listens through, or None for one that reads mels.
        acoustics: Whether the network uses the acoustics of the targets.
        reference: Whether the network attends to other frames of the targets.
    """

    mel: MelSpectrogram
    speaker_encoder: SpeakerEncoder
    encoder_identity: str
    f0: bool = False
    teacher: Teacher | None = None
    recogniser: Recogniser | None = None
    acoustics: bool = False
    reference: bool = False
