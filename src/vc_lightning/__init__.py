"""Zero-shot voice conversion that you can train yourself."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vc_lightning.conversion.converter import VoiceConverter

# ONNX Runtime, which tracks the pitch, reports its use to its makers unless this is set.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__all__ = ["VoiceConverter"]


def __getattr__(name: str) -> Any:
    """Import `VoiceConverter`, and with it PyTorch, where it is first used (PEP 562)."""
    if name != "VoiceConverter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vc_lightning.conversion.converter import VoiceConverter

    return VoiceConverter
