"""Zero-shot voice conversion that you can train yourself."""

import os

# ONNX Runtime, which tracks the pitch, reports its use to its makers unless this is set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from vc_lightning.conversion.converter import VoiceConverter

__all__ = ["VoiceConverter"]
