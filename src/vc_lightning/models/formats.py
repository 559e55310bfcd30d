"""What is in weight files: our card, and the layouts of public ones under our names."""

import math
import re
from dataclasses import dataclass, fields
from pathlib import Path

from torch import Tensor

from vc_lightning.common.errors import InputError
from vc_lightning.common.resources import settings
from vc_lightning.models import sizes

State = dict[str, Tensor]

AUTOVC_RENAMES = {
    r"^(.*convolutions\.\d+)\.0\.conv\.": r"\1.conv.",
    r"^(.*convolutions\.\d+)\.1\.": r"\1.norm.",
    r"^decoder\.linear_projection\.linear_layer\.": "decoder.projection.",
}
D_VECTOR_RENAMES = {r"^module\.": "", r"^embedding\.": "linear."}
WAVERNN_RENAMES = {
    r"^I\.": "input.",
    # the public list alternates stretching, which has no weights, and smoothing
    r"^upsample\.up_layers\.(\d+)\.": lambda match: f"upsample.smoothing.{int(match[1]) // 2}.",
}


@dataclass(frozen=True)
class Card:
    """What a weight file says of itself.

    Attributes:
        kind: "autovc", "wavernn", "multiband_wavernn", "magnitude", "ge2e" or "d_vector".
        network: the network's arguments.
        mel: settings of the mels it works on.
        speaker_encoder: identity of the encoder that made its embeddings.
        weights: "average" or "original".
        step: optimizer steps of training.
        trained_on, licence: of the weights, in words.
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
    """The weights in a file's content, under our names, and their card.

    Raises: InputError when it is none of the known layouts.
    """
    if "card" in content and content["card"] is not None:
        try:
            card = Card(**content["card"])
            state = content.get("state") or content["callbacks"]["EMA"]["average"]
            wrong = [f.name for f in fields(card) if type(getattr(card, f.name)) is not f.type]
        except (TypeError, KeyError) as error:
            raise InputError(f"{path}: its header is not of this version ({error})") from error
        if wrong:
            raise InputError(f"{path}: {wrong[0]} in its header is not of this version")
        return _renamed(state, {}, path), card
    if "model_b" in content:
        return _renamed(content["model_b"], D_VECTOR_RENAMES, path), Card(
            "d_vector", {}, settings("mel", "autovc")
        )
    for wrapper in ("model", "model_state", "state"):
        if isinstance(content.get(wrapper), dict):
            return _identify_public(content[wrapper], wrapper, path)
    return _identify_public(content, "", path)


def _identify_public(state: State, wrapper: str, path: Path) -> tuple[State, Card]:
    """Tells a public layout by its keys and reads off the shapes what the file does not say."""
    if "encoder.lstm.weight_hh_l0" in state:
        state = _renamed(state, AUTOVC_RENAMES, path)
        seed = wrapper == "model_state"  # the first version of this project: GE2E, 22.05 kHz
        mel, encoder = ("wavernn", "ge2e") if seed else ("autovc", "d_vector")
        return state, Card(
            "autovc", sizes.found_in(state, "AutoVC", path), settings("mel", mel), encoder
        )
    if "upsample.resnet.conv_in.weight" in state:
        state = _renamed({k: v for k, v in state.items() if k != "step"}, WAVERNN_RENAMES, path)
        arguments = sizes.found_in(state, "WaveRNN", path)
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
    """Public WaveRNN files do not say what mels they want; their hop length tells them apart."""
    hop_length = math.prod(arguments["upsample_factors"])
    for name in ("wavernn", "autovc"):
        if settings("mel", name)["hop_length"] == hop_length:
            return settings("mel", name)
    if hop_length == 200:  # Real-Time-Voice-Cloning: mels in -4…4
        return {"sample_rate": 16_000, "hop_length": 200, "preemphasis": 0.97, "max_abs_value": 4}
    return {"hop_length": hop_length}
