"""Weight files, ours and the public ones: the only place that reads or writes weights.

Ours are safetensors with a `Card` in the header. The public layouts are PyTorch files; they are
opened with `weights_only=True`, so that no code in them ever runs.
"""

import hashlib
import json
import math
import pickle
import re
import struct
import warnings
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vc_lightning import resources
from vc_lightning.audio import atomic_path, require_file
from vc_lightning.autovc import AutoVC
from vc_lightning.errors import InputError
from vc_lightning.mel import MelSpectrogram
from vc_lightning.resources import settings
from vc_lightning.speaker_encoder import SpeakerEncoder, d_vector, ge2e
from vc_lightning.wavernn import WaveRNN

State = dict[str, Tensor]

METADATA_KEY = "vc_lightning"
UNREADABLE = (  # what torch.load and safe_open raise for damaged and hostile files
    pickle.UnpicklingError,
    SafetensorError,
    struct.error,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)

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
        kind: "autovc", "wavernn", "ge2e" or "d_vector".
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


# Loading -----------------------------------------------------------------------------------------


def load_autovc(path: Path | str, freq: int = 32) -> AutoVC:
    """AutoVC in eval mode; `freq` counts only for public files, which do not carry it."""
    return read_autovc(path, freq)[0]


def load_speaker_encoder(path: Path | str = resources.SPEAKER_ENCODER) -> SpeakerEncoder:
    """GE2E or D_VECTOR speaker encoder in eval mode."""
    return read_speaker_encoder(path)[0]


def load_wavernn(path: Path | str = resources.WAVERNN) -> WaveRNN:
    """WaveRNN in eval mode, with the `mel_settings` of its training."""
    state, card = read(path, "wavernn")
    network = _fill(_build(WaveRNN, card, _wavernn_arguments(state, path), path), state, path)
    network.mel_settings = card.mel
    return network


def read_autovc(path: Path | str, freq: int = 32) -> tuple[AutoVC, Card]:
    """Like `load_autovc`, with the file's card."""
    state, card = read(path, "autovc")
    if "freq" not in card.network:
        card = replace(card, network=card.network | {"freq": freq})
    if card.mel.get("n_mels") != card.network.get("n_mels"):
        raise InputError(f"{path}: its header gives the network and the mels other n_mels")
    return _fill(_build(AutoVC, card, _autovc_arguments(state, path), path), state, path), card


def read_speaker_encoder(path: Path | str) -> tuple[SpeakerEncoder, Card]:
    """Like `load_speaker_encoder`, with the file's card, whose identity is that of the weights."""
    state, card = read(path, "ge2e", "d_vector")
    encoder = (
        ge2e() if card.kind == "ge2e" else d_vector(MelSpectrogram(**settings("mel", "autovc")))
    )
    _fill(encoder, state, path)
    return encoder, replace(card, speaker_encoder=identity(card.kind, encoder.state_dict()))


def read(path: Path | str, *kinds: str) -> tuple[State, Card]:
    """Reads the weights and the card of any known file, under our names of the weights.

    A Lightning checkpoint gives its averaged weights.
    Raises: InputError when the file is missing, damaged, unsafe, or of none of `kinds`.
    """
    path = require_file(path)
    state, card = _identify(_open(path), path)
    if card.kind not in kinds:
        raise InputError(f"{path}: holds {card.kind} weights; {' or '.join(kinds)} are needed here")
    return state, card


def read_training(path: Path | str) -> tuple[Card, dict]:
    """The card and the settings of a checkpoint that a training can go on from.

    Raises: InputError when it holds weights only.
    """
    path = require_file(path)
    content = _open(path)
    if not {"state_dict", "optimizer_states", "lr_schedulers", "loops"} <= content.keys():
        raise InputError(
            f"ckpt_path={path}: holds weights only; resume from a last.ckpt, or begin with these "
            "weights by init_from="
        )
    config = content.get("config")
    return _identify(content, path)[1], config if isinstance(config, dict) else {}


def _open(path: Path) -> dict:
    """The tensors and settings in a file, without running any code in it."""
    try:
        with path.open("rb") as file:
            magic = file.read(9)
        if magic[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return {"state": state, "card": json.loads(metadata.get(METADATA_KEY, "null"))}
        with warnings.catch_warnings(action="ignore"):  # of pickle protocols
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise InputError(
            f"{path}: cannot be read as a checkpoint; it is cut short, of another kind, or holds "
            f"code, which is never run ({type(error).__name__})"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, not a checkpoint")
    return content


def _identify(content: dict, path: Path) -> tuple[State, Card]:
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
        return state, Card("autovc", _autovc_arguments(state, path), settings("mel", mel), encoder)
    if "upsample.resnet.conv_in.weight" in state:
        state = _renamed({k: v for k, v in state.items() if k != "step"}, WAVERNN_RENAMES, path)
        arguments = _wavernn_arguments(state, path)
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


def _autovc_arguments(state: State, path: Path) -> dict:
    try:
        n_mels, dim_decoder = state["decoder.projection.weight"].shape
        dim_encoder, dim_in, _ = state["encoder.convolutions.0.conv.weight"].shape
        return {
            "dim_neck": state["encoder.lstm.weight_hh_l0"].shape[1],
            "dim_emb": dim_in - n_mels,
            "dim_pre": state["decoder.lstm1.weight_hh_l0"].shape[1],
            "n_mels": n_mels,
            "dim_encoder": dim_encoder,
            "dim_decoder": dim_decoder,
            "decoder_layers": sum(key.startswith("decoder.lstm2.weight_hh") for key in state),
            "dim_postnet": state["postnet.convolutions.0.conv.weight"].shape[0],
        }
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"{path}: is not a whole AutoVC network ({error})") from error


def _wavernn_arguments(state: State, path: Path) -> dict:
    try:
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
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"{path}: is not a whole WaveRNN network ({error})") from error


def _public_wavernn_mel(arguments: dict) -> dict:
    """Public WaveRNN files do not say what mels they want; their hop length tells them apart."""
    hop_length = math.prod(arguments["upsample_factors"])
    for name in ("wavernn", "autovc"):
        if settings("mel", name)["hop_length"] == hop_length:
            return settings("mel", name)
    if hop_length == 200:  # Real-Time-Voice-Cloning: mels in -4…4
        return {"sample_rate": 16_000, "hop_length": 200, "preemphasis": 0.97, "max_abs_value": 4}
    return {"hop_length": hop_length}


def _build(network: type[nn.Module], card: Card, found: dict, path: Path | str) -> nn.Module:
    """The network of a card whose sizes are those `found` in the weights, else InputError.

    Comparing first keeps a damaged header from asking for all memory.
    """
    for name, value in found.items():
        if name != "bits" and card.network.get(name) != value:
            raise InputError(
                f"{path}: its header says {name} {card.network.get(name)}, its weights say {value}"
            )
    try:
        return network(**card.network)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: its header does not describe the network ({error})") from error


def _fill(network: nn.Module, state: State, path: Path | str) -> nn.Module:
    """Loads state into the network, all of it, and sets the network to eval mode."""
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise InputError(f"{path}: its weights are of another shape ({reason})") from error
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        first = (missing or unexpected)[0]
        what = "lacks" if missing else "has an unknown"
        raise InputError(f"{path}: {what} weight {first}; it belongs to another network")
    if not all(value.isfinite().all() for value in network.state_dict().values()):
        raise InputError(f"{path}: has weights that are NaN or infinite; its training diverged")
    return network.eval()


# Saving ------------------------------------------------------------------------------------------


def save(path: Path | str, state: State, card: Card, dtype: torch.dtype | None = None) -> Path:
    """Writes weights and card as safetensors, atomically; floats as `dtype` when it is given.

    Raises: InputError when a weight is not finite, instead of replacing a good file.
    """
    if not all(value.isfinite().all() for value in state.values()):
        raise InputError("the weights are NaN or infinite; lower optimizer.lr")
    tensors = {
        key: value.detach().to("cpu", dtype if value.is_floating_point() else None).contiguous()
        for key, value in state.items()
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={METADATA_KEY: json.dumps(asdict(card))})
    return Path(path)


# Who made an embedding ---------------------------------------------------------------------------


def identity(kind: str, state: State) -> str:
    """Name of a speaker encoder that changes with its weights, such as "ge2e-1f2e3d4c"."""
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(key.encode())
        digest.update(value.float().cpu().numpy().tobytes())
    return f"{kind}-{digest.hexdigest()[:8]}"


def require_same_encoder(wanted: str, given: str, name: str) -> None:
    """Raises InputError unless two identities agree; public files say no more than the kind."""
    same_kind = wanted.split("-")[0] == given.split("-")[0]
    if wanted != given and not (same_kind and "-" not in wanted):
        raise InputError(
            f"{name} was made with embeddings of {wanted}, the speaker encoder is {given}; "
            "give speaker_encoder= the one it was made with"
        )
