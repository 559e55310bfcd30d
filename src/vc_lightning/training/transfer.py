"""Starts from the weights of another AutoVC: what `init_from=` and `model=pretrained` change."""

import copy

import torch
from torch.nn import functional as F

from vc_lightning.common import resources
from vc_lightning.models.autovc import DIM_LIVE, AutoVC
from vc_lightning.models.checkpoints import load_autovc


@torch.no_grad()
def add_f0_conditioning(network: AutoVC) -> AutoVC:
    """Add F0 inputs with zero weights, so that the outputs stay the same."""
    conditioned = AutoVC(**network.arguments | {"f0": True})
    weights = network.state_dict()
    name = "decoder.lstm1.weight_ih_l0"  # (4*dim_pre, inputs); the harmonics are the last inputs
    n_new = conditioned.state_dict()[name].shape[1] - weights[name].shape[1]
    weights[name] = F.pad(weights[name], (0, n_new))
    conditioned.load_state_dict(weights)
    return conditioned


@torch.no_grad()
def add_reference(network: AutoVC, dim_reference: int) -> AutoVC:
    """Add an untrained `ReferenceAttention`, which leaves the mels as they are."""
    attending = AutoVC(**network.arguments | {"dim_reference": dim_reference})
    attending.load_state_dict(attending.state_dict() | network.state_dict())
    return attending


@torch.no_grad()
def widened(network: AutoVC, dim_neck: int) -> AutoVC:
    """Give a network a wider bottleneck; its mels stay the same.

    The new LSTM cells do not reach the old ones, and decoder and attention begin to read the new
    channels with zero weights.

    Args:
        network: The network.
        dim_neck: LSTM cells in each direction, at least those of the network.
    """
    made = AutoVC(**network.arguments | {"dim_neck": dim_neck})
    old = network.arguments["dim_neck"]
    cells = torch.arange(old)
    channels = torch.cat([cells, dim_neck + cells])  # of the codes: forward and backward
    gates = (dim_neck * torch.arange(4)[:, None] + cells).flatten()  # rows of an LSTM's weights
    state = made.state_dict()
    for name, weight in network.state_dict().items():
        wide = state[name]
        if "encoder.lstm.weight_hh" in name or "encoder.lstm.weight_ih_l1" in name:
            wide[gates] = 0
            wide[gates[:, None], cells if "_hh" in name else channels] = weight
        elif "encoder.lstm." in name:
            wide[gates] = weight
        elif name in ("decoder.lstm1.weight_ih_l0", "reference.address.0.weight"):
            wide.zero_()
            wide[:, channels] = weight[:, : 2 * old]
            wide[:, 2 * dim_neck :] = weight[:, 2 * old :]
        else:
            wide.copy_(weight)
    return made


def can_listen(source: AutoVC, network: AutoVC) -> bool:
    """Return whether weights of a network that reads mels fit one that listens."""
    new = ("dim_features", "dim_acoustics", "dim_encoder", "dim_reference", "contrast")
    same = all(source.arguments[k] == v for k, v in network.arguments.items() if k not in new)
    return same and source.arguments["dim_encoder"] == DIM_LIVE


@torch.no_grad()
def listening_like(source: AutoVC, network: AutoVC) -> AutoVC:
    """Make a network that listens from one that reads mels, see `can_listen`.

    Decoder and postnet are those of `source`, whose encoder becomes the live encoder; the inputs
    for acoustics get zero weights, and the rest is that of `network`.
    """
    made = copy.deepcopy(network)
    state = made.state_dict()
    n_new = network.arguments["dim_acoustics"]
    n_before = 2 * network.arguments["dim_neck"] + network.arguments["dim_emb"]
    for name, weight in source.state_dict().items():
        if name.startswith("encoder."):
            name = f"live_{name}"
        elif name == "decoder.lstm1.weight_ih_l0":  # of codes, embedding and harmonics
            before, after = weight[:, :n_before], weight[:, n_before:]
            weight = torch.cat([F.pad(before, (0, n_new)), after], dim=1)
        elif ".films." in name and name.endswith("weight"):
            weight = F.pad(weight, (0, n_new))
        state[name].copy_(weight)
    return made


def network_like(path: str | None, freq: int) -> AutoVC:
    """Build the network of a weight file, for `model=pretrained`.

    Args:
        path: The weight file, or "shipped"; None for the shipped network with new weights.
        freq: `freq` of public AutoVC files, which do not hold it.

    Raises:
        InputError: The file is unreadable or holds another kind of network.
    """
    network = load_autovc(resources.AUTOVC if path in (None, "shipped") else path, freq)
    return AutoVC(**network.arguments) if path is None else network.train()
