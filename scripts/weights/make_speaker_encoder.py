"""Rebuild checkpoints/speaker_encoder.safetensors from the published Resemblyzer wheel.

pip download --no-deps Resemblyzer==0.1.4
python scripts/weights/make_speaker_encoder.py Resemblyzer-0.1.4-py3-none-any.whl
"""

import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

from vc_lightning.common import resources
from vc_lightning.models import checkpoints

WEIGHTS = "resemblyzer/pretrained.pt"


def main(wheel: Path) -> None:
    """Read the weights of the wheel; write them without optimizer and loss state."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(wheel) as archive:
            path = Path(archive.extract(WEIGHTS, folder))
        encoder, card = checkpoints.read_speaker_encoder(path)
    card = replace(
        card,
        trained_on="LibriSpeech-other, VoxCeleb1, VoxCeleb2 (Resemblyzer 0.1.4)",
        licence="Apache-2.0, Resemble AI",
    )
    checkpoints.save(resources.SPEAKER_ENCODER, encoder.state_dict(), card)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
