"""Make checkpoints/wavernn.safetensors, in half precision, from a training run's averaged weights.

python train.py experiment=wavernn data.manifest=MANIFEST.tsv
python scripts/weights/make_wavernn.py FILE 0.6 0.85 1.0 1.0

FILE is RUN/checkpoints/wavernn_step<n>_average.safetensors. The numbers are the best temperature,
from the lowest band to the highest, which is known only after the training run.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from vc_lightning.common import resources
from vc_lightning.models import checkpoints


def main(path: Path, temperature: list[float]) -> None:
    """Write the weights as float16, with the temperature in the card."""
    network, card = checkpoints.read_network(path, "wavernn", "multiband_wavernn")
    card = replace(card, network=card.network | {"temperature": temperature})
    checkpoints.save(resources.weights("wavernn"), network.state_dict(), card, torch.float16)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [float(number) for number in sys.argv[2:]])
