"""Rebuild checkpoints/pitch_tracker.safetensors from the published wheel of SwiftF0.

pip download --no-deps swift-f0==0.3.0
python scripts/weights/make_pitch_tracker.py swift_f0-0.3.0-py3-none-any.whl
"""

import sys
import zipfile
from pathlib import Path

import onnx
import torch

from vc_lightning.common import resources
from vc_lightning.models import checkpoints
from vc_lightning.models.files.formats import Card
from vc_lightning.models.swift_f0 import KERNELS, SwiftF0

# Names of our convolutions in the order of the graph.
CONVOLUTIONS = [
    "input",
    *(f"blocks.{i}.{part}" for i in range(len(KERNELS)) for part in ("first", "second")),
    *("output", "presence", "pitch", "voicing.0", "voicing.2"),
]


def main(wheel: Path) -> None:
    """Read weights and biases of the graph's convolutions; its spectra are computed here."""
    with zipfile.ZipFile(wheel) as archive:
        graph = onnx.load_model_from_string(archive.read("swift_f0/model.onnx")).graph
    arrays = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    nodes = [node for node in graph.node if node.op_type == "Conv"]
    network = SwiftF0()
    network.load_state_dict(
        {
            f"{name}.{kind}": torch.from_numpy(arrays[source].copy())
            for name, node in zip(CONVOLUTIONS, nodes, strict=True)
            for kind, source in zip(("weight", "bias"), node.input[1:], strict=True)
        }
    )
    card = Card(
        kind=SwiftF0.kind,
        network={},
        mel={},
        weights="original",
        trained_on="speech and music, see the paper (SwiftF0 0.3.0)",
        licence="MIT, Lars Nieradzik",
    )
    checkpoints.save(resources.PITCH_TRACKER, network.state_dict(), card)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
