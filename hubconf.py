"""torch.hub.load(FOLDER, "voice_converter", source="local"): no installation needed."""

import importlib.util
import pathlib
import sys

dependencies = [
    *("torch", "numpy", "scipy", "librosa", "soundfile", "soxr", "webrtcvad"),
    *("safetensors", "yaml"),
]

if importlib.util.find_spec("vc_lightning") is None:
    sys.path.insert(0, str(pathlib.Path(__file__).parent / "src"))


def voice_converter(checkpoint=None):
    """A `vc_lightning.VoiceConverter`.

    Args: checkpoint, an AutoVC file, ours or public; None for the converter of the project.
    """
    from vc_lightning import VoiceConverter

    if checkpoint is None:
        return VoiceConverter.from_pretrained()
    return VoiceConverter.from_checkpoint(checkpoint)


def speaker_encoder():
    """The GE2E encoder of the project, a `vc_lightning.models.speaker_encoder.SpeakerEncoder`."""
    from vc_lightning.models import checkpoints

    return checkpoints.load_speaker_encoder()
