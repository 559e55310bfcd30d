"""Make checkpoints/griffin_lim.safetensors, in half precision, from a training run's weights.

python train.py experiment=griffin_lim data.manifest=MANIFEST.tsv
python scripts/weights/make_griffin_lim.py RUN/checkpoints/griffin_lim_step3000_average.safetensors
"""

import sys
from pathlib import Path

import torch

from vc_lightning.common import resources
from vc_lightning.models import checkpoints


def main(path: Path) -> None:
    """Write the weights as float16, with the same card."""
    state, card = checkpoints.read(path, "griffin_lim")
    checkpoints.save(resources.weights("griffin_lim"), state, card, torch.float16)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
