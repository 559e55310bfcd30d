"""Make checkpoints/source_filter.safetensors, in half precision, from a training run's weights.

python train.py experiment=source_filter data.manifest=MANIFEST.tsv
python scripts/weights/make_source_filter.py RUN/checkpoints/…_average.safetensors
"""

import sys
from pathlib import Path

import torch

from vc_lightning.common import resources
from vc_lightning.models import checkpoints


def main(path: Path) -> None:
    """Write the weights as float16, with the same card."""
    network, card = checkpoints.read_network(path, "source_filter")
    checkpoints.save(resources.SOURCE_FILTER, network.state_dict(), card, torch.float16)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
