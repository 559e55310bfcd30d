"""Entry points of torch.hub, such as torch.hub.load(FOLDER, "voice_converter", source="local")."""

import importlib.util
import pathlib
import sys

dependencies = ["torch", "numpy", "scipy", "soundfile", "soxr", "webrtcvad", "safetensors", "yaml"]

if importlib.util.find_spec("vc_lightning") is None:
    sys.path.insert(0, str(pathlib.Path(__file__).parent / "src"))


def voice_converter(checkpoint=None):
    """Load a `vc_lightning.VoiceConverter`.

    Args:
        checkpoint: AutoVC file, ours or public; None for the shipped one.
    """
    from vc_lightning import VoiceConverter

    if checkpoint is None:
        return VoiceConverter.from_pretrained()
    return VoiceConverter.from_checkpoint(checkpoint)


def speaker_encoder():
    """Load the shipped GE2E encoder, a `vc_lightning.models.speaker_encoder.GE2E`."""
    from vc_lightning.models import checkpoints

    return checkpoints.load_speaker_encoder()
