"""Zero-shot voice conversion that you can train yourself."""

from vc_lightning.conversion.converter import VoiceConverter

__all__ = ["VoiceConverter"]
