"""Contents of weight files: our card, and the public layouts under our names."""

import math
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path

from torch import Tensor

from vc_lightning.common.errors import InputError
from vc_lightning.common.resources import settings
from vc_lightning.models.files.kinds import sizes_in
from vc_lightning.models.network import State

OLD_KINDS = {"magnitude": "griffin_lim"}  # of files before 0.4
AUTOVC_RENAMES = {
    r"^(.*convolutions\.\d+)\.0\.conv\.": r"\1.conv.",
    r"^(.*convolutions\.\d+)\.1\.": r"\1.norm.",
    r"^decoder\.linear_projection\.linear_layer\.": "decoder.projection.",
}
D_VECTOR_RENAMES = {r"^module\.": "", r"^embedding\.": "linear."}
WAVERNN_RENAMES = {
    r"^I\.": "input.",
    # The public list alternates stretching layers, which have no weights, and smoothing layers.
    r"^upsample\.up_layers\.(\d+)\.": lambda match: f"upsample.smoothing.{int(match[1]) // 2}.",
}


@dataclass(frozen=True)
class Card:
    """The header of a weight file.

    Attributes:
        kind: One of `kinds.KINDS`.
        network: Arguments of the network.
        mel: Settings of its mels.
        speaker_encoder: Identity of the speaker encoder that it was trained with.
        weights: "average" or "original".
        step: Optimizer steps of training.
        trained_on: Description of the training data.
        licence: Licence of the weights.
    """

    kind: str
    network: dict
    mel: dict
    speaker_encoder: str = ""
    weights: str = ""
    step: int = 0
    trained_on: str = ""
    licence: str = ""


def identify(content: dict, path: Path) -> tuple[State, Card]:
    """Find the weights and their card in the content of a file.

    Args:
        content: What the file holds.
        path: The file, for messages.

    Returns:
        The weights under our names, and the card.

    Raises:
        InputError: The layout is unknown.
    """
    if "card" in content and content["card"] is not None:
        try:
            card = Card(**content["card"])
            state = content.get("state") or _training_weights(content)
            wrong = [f.name for f in fields(card) if type(getattr(card, f.name)) is not f.type]
        except (TypeError, KeyError) as error:
            raise InputError(f"{path}: its header is not of this version ({error})") from error
        if wrong:
            raise InputError(f"{path}: {wrong[0]} in its header is not of this version")
        kind = OLD_KINDS.get(card.kind, card.kind)
        return _renamed(state, {}, path), replace(card, kind=kind)
    if "model_b" in content:
        return _renamed(content["model_b"], D_VECTOR_RENAMES, path), Card(
            "d_vector", {}, settings("mel", "autovc")
        )
    for wrapper in ("model", "model_state", "state"):
        if isinstance(content.get(wrapper), dict):
            return _identify_public(content[wrapper], wrapper, path)
    return _identify_public(content, "", path)


def _training_weights(content: dict) -> dict:
    """Return the averaged weights of a `last.ckpt`; without averages, the trained ones."""
    if average := content["callbacks"].get("EMA"):
        return average["average"]
    prefix = "network."
    state = content["state_dict"].items()
    return {name.removeprefix(prefix): one for name, one in state if name.startswith(prefix)}


def _identify_public(state: State, wrapper: str, path: Path) -> tuple[State, Card]:
    """Recognise a public layout by its keys and read the sizes off the shapes of the weights."""
    if "encoder.lstm.weight_hh_l0" in state:
        state = _renamed(state, AUTOVC_RENAMES, path)
        seed = wrapper == "model_state"  # the first version of this project: GE2E, 22.05 kHz
        mel, encoder = ("wavernn", "ge2e") if seed else ("autovc", "d_vector")
        arguments = sizes_in(state, "autovc", path) | {"contrast": 0.0}  # mels as published
        return state, Card("autovc", arguments, settings("mel", mel), encoder)
    if "upsample.resnet.conv_in.weight" in state:
        state = _renamed({k: v for k, v in state.items() if k != "step"}, WAVERNN_RENAMES, path)
        arguments = sizes_in(state, "wavernn", path)
        return state, Card("wavernn", arguments, _public_wavernn_mel(arguments))
    if "linear.weight" in state and "lstm.weight_ih_l0" in state:
        state = {k: v for k, v in state.items() if not k.startswith("similarity_")}
        return _renamed(state, {}, path), Card("ge2e", {}, {})
    raise InputError(f"{path}: holds none of the known networks (AutoVC, WaveRNN, GE2E, D_VECTOR)")


def _renamed(state: State, renames: dict, path: Path) -> State:
    renamed = {}
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise InputError(f"{path}: its entry {key} is a {type(value).__name__}, not a tensor")
        for pattern, replacement in renames.items():
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def _public_wavernn_mel(arguments: dict) -> dict:
    """Infer the mel settings of a public WaveRNN, which its file does not hold, from the hop."""
    hop_length = math.prod(arguments["upsample_factors"])
    for name in ("wavernn", "autovc"):
        if settings("mel", name)["hop_length"] == hop_length:
            return settings("mel", name)
    if hop_length == 200:  # Real-Time-Voice-Cloning: mels in -4…4
        return {"sample_rate": 16_000, "hop_length": 200, "preemphasis": 0.97, "max_abs_value": 4}
    return {"hop_length": hop_length}
