"""Make checkpoints/autovc.safetensors, in half precision, from a training run's averaged weights.

python train.py experiment=shipped data.manifest=MANIFEST.tsv
python scripts/weights/make_autovc.py RUN/checkpoints/autovc_step<n>_average.safetensors
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from vc_lightning.common import resources
from vc_lightning.models import checkpoints


def main(path: Path) -> None:
    """Write the weights as float16, with data and licence in the card."""
    network, card = checkpoints.read_autovc(path)
    card = replace(card, trained_on="see checkpoints/README.md", licence="CC BY-SA 4.0")
    checkpoints.save(resources.AUTOVC, network.state_dict(), card, torch.float16)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
