"""Make checkpoints/source_filter.safetensors, in half precision, from a training run's weights.

python train.py experiment=source_filter data.manifest=MANIFEST.tsv
python scripts/weights/make_source_filter.py RUN/checkpoints/…_average.safetensors [FORMER SHARE]

With FORMER, a weight file from which the run went on, the weights are a mean of both (Wortsman et
al. 2022, arXiv 2203.05482), of which SHARE are those of FORMER.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from vc_lightning.common import resources
from vc_lightning.models import checkpoints


def main(path: Path, former: Path | None = None, share: float = 0.0) -> None:
    """Write the weights as float16, with data and licence in the card."""
    network, card = checkpoints.read_network(path, "source_filter")
    card = replace(card, trained_on="see checkpoints/README.md", licence="CC BY-SA 4.0")
    state = network.state_dict()
    if former is not None:
        before = checkpoints.load_vocoder(former).state_dict()
        state = {name: torch.lerp(value, before[name], share) for name, value in state.items()}
    checkpoints.save(resources.weights("source_filter"), state, card, torch.float16)


if __name__ == "__main__":
    main(
        Path(sys.argv[1]), *(cast(x) for cast, x in zip((Path, float), sys.argv[2:], strict=False))
    )
