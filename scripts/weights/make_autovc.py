"""Make checkpoints/autovc.safetensors, in half precision, from averaged weights of training runs.

python train.py experiment=shipped data.manifest=MANIFEST.tsv
python scripts/weights/make_autovc.py RUN/checkpoints/autovc_step<n>_average.safetensors

Of several files, which went on from the same weights, it takes the mean (Wortsman et al. 2022,
arXiv 2203.05482); `--attention` takes the attention to the target's frames from one more file, and
`--output` writes the weights elsewhere, unrounded, for a training run to go on from.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from vc_lightning.common import resources
from vc_lightning.models import checkpoints


def main(paths: list[Path], attention: Path | None, output: Path | None) -> None:
    """Write the weights, as float16 with data and licence in the card if they are to be shipped."""
    read = [checkpoints.read_autovc(path) for path in paths]
    states = [network.state_dict() for network, _ in read]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(dim=0)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }
    if attention is not None:
        other = checkpoints.load_autovc(attention).state_dict()
        mean |= {name: value for name, value in other.items() if name.startswith("reference.")}
    card = replace(read[0][1], step=max(card.step for _, card in read))
    if output is not None:
        checkpoints.save(output, mean, card)
        return
    card = replace(card, trained_on="see checkpoints/README.md", licence="CC BY-SA 4.0")
    checkpoints.save(resources.AUTOVC, mean, card, torch.float16)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--attention", type=Path, metavar="FILE")
    parser.add_argument("--output", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    main(arguments.paths, arguments.attention, arguments.output)
