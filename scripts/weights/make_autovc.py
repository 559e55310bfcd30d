"""Make checkpoints/autovc.safetensors, in half precision, from a training run's averaged weights.

python train.py experiment=shipped data.manifest=MANIFEST.tsv
python scripts/weights/make_autovc.py RUN/checkpoints/autovc_step<n>_average.safetensors
"""

import sys
from pathlib import Path

import torch

from vc_lightning.common import resources
from vc_lightning.models import checkpoints


def main(path: Path) -> None:
    """Write the weights as float16, with the same card."""
    network, card = checkpoints.read_autovc(path)
    checkpoints.save(resources.AUTOVC, network.state_dict(), card, torch.float16)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
