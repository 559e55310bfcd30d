"""Contents of weight files: our card, and the public layouts under our names."""

import math
import re
from dataclasses import dataclass, fields
from pathlib import Path

from torch import Tensor

from vc_lightning.common.errors import InputError
from vc_lightning.common.resources import settings

State = dict[str, Tensor]

BLOCK_WEIGHTS = 9  # tensors in a block of ConvNeXt

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
        kind: "autovc", "wavernn", "multiband_wavernn", "source_filter", "magnitude", "ge2e",
            "d_vector" or "recogniser".
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
        return _renamed(state, {}, path), card
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
        return state, Card("autovc", sizes_in(state, "AutoVC", path), settings("mel", mel), encoder)
    if "upsample.resnet.conv_in.weight" in state:
        state = _renamed({k: v for k, v in state.items() if k != "step"}, WAVERNN_RENAMES, path)
        arguments = sizes_in(state, "WaveRNN", path)
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


# Sizes of the networks, read off the shapes of their weights -------------------------------------


def sizes_in(state: dict[str, Tensor], network: str, path: Path | str) -> dict:
    """Read the arguments of a network off the shapes of its weights.

    Args:
        state: The weights.
        network: Name of the network's class, one of `READERS`.
        path: Their file, for messages.

    Raises:
        InputError: Weights are missing.
    """
    try:
        return READERS[network](state)
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"{path}: is not a whole {network} network ({error})") from error


def _autovc(state: dict[str, Tensor]) -> dict:
    n_mels, dim_decoder = state["decoder.projection.weight"].shape
    dim_encoder, dim_in, _ = state["encoder.convolutions.0.conv.weight"].shape
    dim_neck = state["encoder.lstm.weight_hh_l0"].shape[1]
    dim_features = dim_in if "features_mean" in state else 0
    dim_acoustics = len(state["clean"]) if "clean" in state else 0
    if dim_features:
        dim_in = state["live_encoder.convolutions.0.conv.weight"].shape[1]
    dim_emb = dim_in - n_mels
    dim_voice = dim_emb + dim_acoustics
    return {
        "dim_neck": dim_neck,
        "dim_emb": dim_emb,
        "dim_pre": state["decoder.lstm1.weight_hh_l0"].shape[1],
        "n_mels": n_mels,
        "dim_encoder": dim_encoder,
        "dim_decoder": dim_decoder,
        "decoder_layers": sum(key.startswith("decoder.lstm2.weight_hh") for key in state),
        "dim_postnet": state["postnet.convolutions.0.conv.weight"].shape[0],
        "f0": state["decoder.lstm1.weight_ih_l0"].shape[1] > 2 * dim_neck + dim_voice,
        "film": "decoder.films.0.linear.weight" in state,
        "dim_features": dim_features,
        "dim_acoustics": dim_acoustics,
    }


def _wavernn(state: dict[str, Tensor]) -> dict:
    n_out = state["fc3.weight"].shape[0]
    compute_dims, n_mels, kernel_size = state["upsample.resnet.conv_in.weight"].shape
    smoothing = sorted(key for key in state if key.startswith("upsample.smoothing."))
    blocks = {key.split(".")[3] for key in state if key.startswith("upsample.resnet.layers.")}
    return {
        "mode": "MOL" if n_out == 30 else "RAW",
        "bits": 9 if n_out == 30 else n_out.bit_length() - 1,
        "n_mels": n_mels,
        "upsample_factors": [state[key].shape[-1] // 2 for key in smoothing],
        "pad": kernel_size // 2,
        "rnn_dims": state["rnn1.weight_hh_l0"].shape[1],
        "fc_dims": state["fc3.weight"].shape[1],
        "compute_dims": compute_dims,
        "res_out_dims": state["upsample.resnet.conv_out.weight"].shape[0],
        "res_blocks": len(blocks),
    }


def _multiband(state: dict[str, Tensor]) -> dict:
    bands, n_mels = state["envelope"].shape
    frame_dims = len(state["frames.convolution2.weight"])
    blocks = {key.split(".")[2] for key in state if key.startswith("frames.blocks.")}
    return {
        "n_mels": n_mels,
        "bands": bands,
        "order": (state["rnn.weight_ih_l0"].shape[1] - frame_dims) // bands,
        "prediction_order": state["predictor.weight"].shape[0] // bands**2,
        "pad": (state["frames.convolution1.weight"].shape[2] + 3) // 2,
        "frame_dims": frame_dims,
        "frame_blocks": len(blocks),
        "rnn_dims": state["rnn.weight_hh_l0"].shape[1],
        "fc_dims": state["fc1.weight"].shape[0],
        "n_mixtures": state["fc2.weight"].shape[0] // (3 * bands),
    }


def _magnitude(state: dict[str, Tensor]) -> dict:
    dim, n_mels, _ = state["input.weight"].shape
    n_blocks = sum(key.startswith("blocks.") for key in state) // 2
    n_bins = len(state["output.weight"])
    return {"n_mels": n_mels, "n_bins": n_bins, "dim": dim, "n_blocks": n_blocks}


def _source_filter(state: dict[str, Tensor]) -> dict:
    dim, n_mels, _ = state["backbone.input.weight"].shape
    n_fft = len(state["window"])
    return {
        "n_mels": n_mels,
        "n_fft": n_fft,
        "steps": len(state["envelope.weight"]) // (n_fft // 2 + 1),
        "dim": dim,
        "n_blocks": sum(key.startswith("backbone.blocks.") for key in state) // BLOCK_WEIGHTS,
        "dim_pitch": len(state["pitch.backbone.input.weight"]),
        "pitch_blocks": sum(key.startswith("pitch.backbone.blocks.") for key in state)
        // BLOCK_WEIGHTS,
    }


def _recogniser(state: dict[str, Tensor]) -> dict:
    dim, n_mels, _ = state["conv1.weight"].shape
    n_layers = sum(key.endswith(".qkv.weight") for key in state)
    return {"n_mels": n_mels, "dim": dim, "n_layers": n_layers}


READERS = {
    "AutoVC": _autovc,
    "WaveRNN": _wavernn,
    "MultiBandWaveRNN": _multiband,
    "MagnitudeNet": _magnitude,
    "SourceFilter": _source_filter,
    "Recogniser": _recogniser,
}
