"""Networks from weight files, ours and public ones, and weight files of our own.

Our files are safetensors with a `Card` in the header; public ones are PyTorch checkpoints.
"""

import inspect
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vc_lightning.audio.mel import require_same_settings
from vc_lightning.common import resources, validation
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import atomic_path, require_file
from vc_lightning.common.precision import has_bfloat16_products
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.critics.speaker import SpeakerCritic
from vc_lightning.models.critics.voice import VoiceCritic
from vc_lightning.models.files import hub
from vc_lightning.models.files.checksums import identity
from vc_lightning.models.files.formats import Card, identify
from vc_lightning.models.files.kinds import KINDS, sizes_in
from vc_lightning.models.files.opening import METADATA_KEY, content_of, require_undamaged
from vc_lightning.models.live_adapter import LiveAdapter
from vc_lightning.models.network import State
from vc_lightning.models.recogniser import Recogniser
from vc_lightning.models.speaker_encoder import GE2E, DVector, SpeakerEncoder
from vc_lightning.models.vocoders.griffin_lim.network import GriffinLimNet
from vc_lightning.models.vocoders.wavernn.multiband import MultiBandWaveRNN
from vc_lightning.models.vocoders.wavernn.network import WaveRNN

# Loading -----------------------------------------------------------------------------------------


def load_autovc(path: Path | str, freq: int = 32) -> AutoVC:
    """Load AutoVC in eval mode.

    Args:
        path: See `read`.
        freq: Frames per code, for public files, which do not store it.

    Raises:
        InputError: The file cannot be used, see `read`.
    """
    return read_autovc(path, freq)[0]


def load_speaker_encoder(path: Path | str = resources.SPEAKER_ENCODER) -> SpeakerEncoder:
    """Load a GE2E or D_VECTOR speaker encoder in eval mode."""
    return read_speaker_encoder(path)[0]


def load_wavernn(path: Path | str | None = None) -> WaveRNN | MultiBandWaveRNN:
    """Load a WaveRNN, by default the shipped one, see `load_vocoder`."""
    return load_vocoder(path or resources.weights("wavernn"), "wavernn")


def load_griffin_lim(path: Path | str | None = None) -> GriffinLimNet:
    """Load Griffin-Lim's network, by default the shipped one, in eval mode."""
    path = path or resources.weights("griffin_lim")
    network, card = read_network(path, GriffinLimNet.kind)
    n_bins, n_fft = network.arguments["n_bins"], card.mel.get("n_fft")
    if n_fft not in (2 * n_bins - 2, 2 * n_bins - 1):
        raise InputError(f"{path}: its header says n_bins {n_bins}, but n_fft {n_fft} for the mels")
    return network


def load_vocoder(path: Path | str, name: str | None = None) -> Any:
    """Load a vocoder in eval mode, with the `mel_settings` of its training.

    Args:
        path: See `read`.
        name: Its choice in `conf/vocoder/`, such as "wavernn"; None for any.

    Returns:
        A `Vocoder`.

    Raises:
        InputError: The file cannot be used, see `read`.
    """
    kinds = [
        kind
        for kind, network in KINDS.items()
        if hasattr(network, "generate") and name in (None, network.vocoder)
    ]
    return read_network(path, *kinds)[0]


def load_recogniser(path: Path | str = resources.RECOGNISER) -> Recogniser:
    """Load a recogniser in eval mode."""
    return read_network(path, Recogniser.kind)[0].requires_grad_(False)


def load_fast_recogniser() -> Recogniser:
    """Load the recogniser of conversions and critics, in bfloat16 or 8 bits if they are fast."""
    recogniser = load_recogniser()
    return recogniser.use_bfloat16() if has_bfloat16_products() else recogniser.use_8_bits()


def load_live_adapter() -> LiveAdapter:
    """Load what the recogniser learned of speech that goes on, in eval mode."""
    return read_network(resources.LIVE_ADAPTER, LiveAdapter.kind)[0].requires_grad_(False)


def load_speaker_critic(mel: dict, path: Path | str = resources.SPEAKER_CRITIC) -> SpeakerCritic:
    """Load the speaker critic of training runs in eval mode.

    Args:
        mel: Settings of the mels that it will judge.
        path: Its file.

    Raises:
        InputError: The file cannot be used, or it judges other mels.
    """
    critic, card = read_network(path, SpeakerCritic.kind)
    require_same_settings(card.mel, mel, "the speaker critic", "this training run")
    return critic.requires_grad_(False)


def load_voice_critic(card: Card) -> VoiceCritic:
    """Load the voice critic of training runs: the shipped vocoder and speaker encoder.

    Args:
        card: Header of the weights to be trained, with their mel settings and speaker encoder.

    Raises:
        InputError: Mel settings or speaker encoder are others.
    """
    vocoder = load_vocoder(resources.weights("source_filter"))
    require_same_settings(vocoder.mel_settings, card.mel, "the voice critic", "this training run")
    encoder, own = read_speaker_encoder(resources.SPEAKER_ENCODER)
    if own.speaker_encoder != card.speaker_encoder:
        raise InputError(
            f"task.voice_weight: the voice critic hears by the speaker encoder "
            f"{own.speaker_encoder}, but the embeddings of this training run are of "
            f"{card.speaker_encoder}; set task.voice_weight=0, or leave out speaker_encoder="
        )
    return VoiceCritic(vocoder, encoder)


def read_autovc(path: Path | str, freq: int = 32) -> tuple[AutoVC, Card]:
    """Load AutoVC and the file's card, see `load_autovc`."""
    return read_network(path, AutoVC.kind, freq=freq)


def read_speaker_encoder(path: Path | str) -> tuple[SpeakerEncoder, Card]:
    """Load a speaker encoder and the file's card, with `speaker_encoder` set to its `identity`."""
    encoder, card = read_network(path, GE2E.kind, DVector.kind)
    return encoder, replace(card, speaker_encoder=identity(card.kind, encoder.state_dict()))


def read_network(path: Path | str, *kinds: str, freq: int = 32) -> tuple[Any, Card]:
    """Load a network in eval mode, with the `mel_settings` of its training, and the file's card.

    Arguments and errors are those of `read`.
    """
    state, card = read(path, *kinds, freq=freq)
    for name in KINDS[card.kind].sizes_of_mels:
        of_network, of_mels = card.network.get(name), card.mel.get(name)
        if of_network != of_mels:
            raise InputError(
                f"{path}: its header says {name} {of_network} for the network, {of_mels} for the "
                "mels"
            )
    network = _network(card, state, path)
    network.mel_settings = card.mel
    return network, card


def read(path: Path | str, *kinds: str, freq: int = 32) -> tuple[State, Card]:
    """Read weights and card of a file of any known layout.

    Args:
        path: A file, or an address on a hub (hf://OWNER/REPO). Of a Lightning checkpoint the
            averaged weights are read.
        kinds: Kinds of network that are accepted, see `Card`.
        freq: Frames per code, for public AutoVC files, which do not store it.

    Returns:
        The weights under our names, and the card.

    Raises:
        InputError: The file is missing, damaged, unsafe or of another kind.
    """
    path = require_file(hub.local_path(path))
    state, card = identify(content_of(path), path)
    if card.kind not in kinds:
        raise InputError(f"{path}: holds {card.kind} weights; {' or '.join(kinds)} are needed here")
    if card.kind == AutoVC.kind and "freq" not in card.network:
        card = replace(card, network=card.network | {"freq": freq})
    return state, card


def read_training(path: Path | str) -> tuple[Card, dict]:
    """Read the card and the configuration of a checkpoint that a training run can resume from.

    Raises:
        InputError: The file is damaged or holds weights only.
    """
    path = require_file(path)
    content = content_of(path)
    require_undamaged(path)
    if not {"state_dict", "optimizer_states", "lr_schedulers", "loops"} <= content.keys():
        raise InputError(
            f"ckpt_path={path}: holds weights only; resume from a last.ckpt, or start from these "
            "weights with init_from="
        )
    config = content.get("config")
    return identify(content, path)[1], config if isinstance(config, dict) else {}


def _network(card: Card, state: State, path: Path | str) -> Any:
    """Build the network of a card and load its weights.

    The sizes in the card are compared with those of the weights first, because a network of the
    sizes in a damaged header might not fit into memory.
    """
    network = KINDS[card.kind]
    parameters = inspect.signature(network).parameters.values()
    stated = {parameter.name: parameter.default for parameter in parameters} | card.network
    for name, value in sizes_in(state, card.kind, path).items():
        if name != "bits" and stated[name] != value:
            raise InputError(
                f"{path}: its header says {name} {card.network.get(name)}, its weights say {value}"
            )
    try:
        validation.require_arguments(network, card.network)
        with _Uninitialized():
            built = network(**card.network)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: its header does not describe the network ({error})") from error
    return _fill(built, state, path)


class _Uninitialized(TorchFunctionMode):
    """Draws no random weights for a network whose weights are read from a file."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.uniform_, Tensor.normal_, nn.init.kaiming_uniform_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _fill(network: nn.Module, state: State, path: Path | str) -> nn.Module:
    """Load all weights into the network and set it to eval mode."""
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise InputError(f"{path}: its weights are of another shape ({reason})") from error
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or unexpected:
        first = (missing or unexpected)[0]
        fault = "lacks" if missing else "has an unknown"
        raise InputError(f"{path}: {fault} weight {first}; it belongs to another network")
    if not all(_is_finite(value) for value in network.state_dict().values()):
        raise InputError(f"{path}: has weights that are NaN or infinite; its training diverged")
    return network.eval()


def _is_finite(values: Tensor) -> bool:
    """Return whether no value is NaN or infinite; a sum shows it much faster than a comparison."""
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())


# Saving ------------------------------------------------------------------------------------------


def save(path: Path | str, state: State, card: Card, dtype: torch.dtype | None = None) -> Path:
    """Write weights and card as safetensors; an existing file is replaced as a whole.

    Args:
        path: The file.
        state: The weights.
        card: The header.
        dtype: Data type of floats in the file; None keeps that of the weights.

    Returns:
        path.

    Raises:
        InputError: A weight is not finite; an existing file stays as it is.
    """
    if not all(_is_finite(value) for value in state.values()):
        raise InputError("the weights are NaN or infinite; lower optimizer.lr")
    tensors = {
        key: value.detach().to("cpu", dtype if value.is_floating_point() else None).contiguous()
        for key, value in state.items()
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={METADATA_KEY: json.dumps(asdict(card))})
    return Path(path)


# Identity of frozen networks ---------------------------------------------------------------------


def require_same_encoder(wanted: str, given: str, name: str) -> None:
    """Raise InputError unless two identities agree; public files state the kind only."""
    same_kind = wanted.split("-")[0] == given.split("-")[0]
    if wanted != given and not (same_kind and "-" not in wanted):
        raise InputError(
            f"{name} was made with embeddings of {wanted}, the speaker encoder is {given}; "
            f"give the file of {wanted} by speaker_encoder="
        )
