"""Weight files, ours and public ones: the only module that reads or writes weights.

Our files are safetensors with a `Card` in the header. Public files are PyTorch checkpoints; they
are opened with `weights_only=True`, so that no code in them ever runs.
"""

import contextlib
import inspect
import json
import pickle
import struct
import warnings
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vc_lightning.audio.mel import MelSpectrogram, require_same_settings
from vc_lightning.common import resources, validation
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import atomic_path, require_file
from vc_lightning.common.resources import settings
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.files import hub
from vc_lightning.models.files.checksums import identity, require_listed
from vc_lightning.models.files.formats import Card, identify
from vc_lightning.models.files.kinds import KINDS, State, sizes_in
from vc_lightning.models.recogniser import Recogniser
from vc_lightning.models.speaker_critic import SpeakerCritic
from vc_lightning.models.speaker_encoder import SpeakerEncoder, d_vector, ge2e
from vc_lightning.models.vocoders.base import Vocoder
from vc_lightning.models.vocoders.griffin_lim.network import GriffinLimNet
from vc_lightning.models.vocoders.source_filter.network import SourceFilter
from vc_lightning.models.vocoders.wavernn.multiband import MultiBandWaveRNN
from vc_lightning.models.vocoders.wavernn.network import WaveRNN

METADATA_KEY = "vc_lightning"
UNREADABLE = (  # exceptions of torch.load and safe_open for damaged and hostile files
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

Network = TypeVar("Network", bound=nn.Module)

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


def load_wavernn(path: Path | str = resources.WAVERNN) -> WaveRNN | MultiBandWaveRNN:
    """Load a WaveRNN in eval mode, with the `mel_settings` of its training."""
    return read_wavernn(path)[0]


def load_vocoder(path: Path | str) -> Vocoder:
    """Load a vocoder of any kind in eval mode, with the `mel_settings` of its training."""
    return _read_for_mels(path, *(name for name, kind in KINDS.items() if kind.is_vocoder))[0]


def load_source_filter(path: Path | str = resources.SOURCE_FILTER) -> SourceFilter:
    """Load a source-filter vocoder in eval mode, with the `mel_settings` of its training."""
    return read_source_filter(path)[0]


def load_griffin_lim(path: Path | str = resources.GRIFFIN_LIM) -> GriffinLimNet:
    """Load Griffin-Lim's network in eval mode, with the `mel_settings` of its training."""
    network, card = _read_for_mels(path, GriffinLimNet.kind)
    n_bins, n_fft = network.arguments["n_bins"], card.mel.get("n_fft")
    if n_fft not in (2 * n_bins - 2, 2 * n_bins - 1):
        raise InputError(f"{path}: its header says n_bins {n_bins}, but n_fft {n_fft} for the mels")
    return network


def load_recogniser(path: Path | str = resources.RECOGNISER) -> Recogniser:
    """Load a recogniser in eval mode."""
    state, card = read(path, Recogniser.kind)
    return _network(card, state, path).requires_grad_(False)


def load_speaker_critic(mel: dict, path: Path | str = resources.SPEAKER_CRITIC) -> SpeakerCritic:
    """Load the speaker critic of trainings in eval mode.

    Args:
        mel: Settings of the mels that it will judge.
        path: See `read`.

    Raises:
        InputError: The file cannot be used, or it judges other mels.
    """
    critic, card = _read_for_mels(path, SpeakerCritic.kind)
    require_same_settings(card.mel, mel, "the speaker critic", "this training")
    return critic.requires_grad_(False)


def read_autovc(path: Path | str, freq: int = 32) -> tuple[AutoVC, Card]:
    """Load AutoVC and the file's card, see `load_autovc`."""
    state, card = read(path, "autovc")
    if "freq" not in card.network:
        card = replace(card, network=card.network | {"freq": freq})
    _require_sizes_of_mels(path, card)
    return _network(card, state, path), card


def read_wavernn(path: Path | str) -> tuple[WaveRNN | MultiBandWaveRNN, Card]:
    """Load a WaveRNN and the file's card, see `load_wavernn`."""
    return _read_for_mels(path, WaveRNN.kind, MultiBandWaveRNN.kind)


def read_source_filter(path: Path | str) -> tuple[SourceFilter, Card]:
    """Load a source-filter vocoder and the file's card, see `load_source_filter`."""
    return _read_for_mels(path, SourceFilter.kind)


def read_speaker_encoder(path: Path | str) -> tuple[SpeakerEncoder, Card]:
    """Load a speaker encoder and the file's card, with `speaker_encoder` set to its `identity`."""
    state, card = read(path, "ge2e", "d_vector")
    encoder = (
        ge2e() if card.kind == "ge2e" else d_vector(MelSpectrogram(**settings("mel", "autovc")))
    )
    _fill(encoder, state, path)
    return encoder, replace(card, speaker_encoder=identity(card.kind, encoder.state_dict()))


def read(path: Path | str, *kinds: str) -> tuple[State, Card]:
    """Read weights and card of a file of any known layout.

    Args:
        path: A file, or an address on a hub (hf://OWNER/REPO). Of a Lightning checkpoint the
            averaged weights are read.
        kinds: Kinds of network that are accepted, see `Card`.

    Returns:
        The weights under our names, and the card.

    Raises:
        InputError: The file is missing, damaged, unsafe or of another kind.
    """
    path = require_file(hub.local_path(path))
    state, card = identify(_open(path), path)
    if card.kind not in kinds:
        raise InputError(f"{path}: holds {card.kind} weights; {' or '.join(kinds)} are needed here")
    return state, card


def read_training(path: Path | str) -> tuple[Card, dict]:
    """Read the card and the configuration of a checkpoint that a training run can resume from.

    Raises:
        InputError: The file is damaged or holds weights only.
    """
    path = require_file(path)
    content = _open(path)
    _require_undamaged(path)
    if not {"state_dict", "optimizer_states", "lr_schedulers", "loops"} <= content.keys():
        raise InputError(
            f"ckpt_path={path}: holds weights only; resume from a last.ckpt, or start from these "
            "weights with init_from="
        )
    config = content.get("config")
    return identify(content, path)[1], config if isinstance(config, dict) else {}


def _open(path: Path) -> dict:
    """Read the tensors and settings in a file without running any code in it."""
    require_listed(path)
    try:
        with path.open("rb") as file:
            magic = file.read(9)
        if magic[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return {"state": state, "card": json.loads(metadata.get(METADATA_KEY, "null"))}
        _require_unpacked(path)
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


def _require_unpacked(path: Path) -> None:
    """Raise ValueError for a compressed archive, which PyTorch never writes (a zip bomb)."""
    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        if sum(part.file_size for part in archive.infolist()) > path.stat().st_size:
            raise ValueError("it is compressed")


def _require_undamaged(path: Path) -> None:
    """Raise InputError when a PyTorch file does not match its checksums, which PyTorch ignores."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except zipfile.BadZipFile:
        return  # not an archive; its content will be refused
    except UNREADABLE as error:
        damaged = type(error).__name__
    if damaged:
        raise InputError(
            f"{path}: is damaged ({damaged}); use a copy of it, or train from the start"
        )


def _read_for_mels(path: Path | str, *kinds: str) -> tuple[Any, Card]:
    """Load a network of one of several kinds that takes mels; check that its sizes are theirs."""
    state, card = read(path, *kinds)
    _require_sizes_of_mels(path, card)
    built = _network(card, state, path)
    built.mel_settings = card.mel
    return built, card


def _require_sizes_of_mels(path: Path | str, card: Card) -> None:
    """Raise InputError unless a card's network and mels have the same sizes."""
    for name in KINDS[card.kind].sizes_of_mels:
        of_network, of_mels = card.network.get(name), card.mel.get(name)
        if of_network != of_mels:
            raise InputError(
                f"{path}: its header says {name} {of_network} for the network, {of_mels} for the "
                "mels"
            )


def _network(card: Card, state: State, path: Path | str) -> Any:
    """Build the network of a card and load its weights.

    The sizes in the card are compared with those of the weights first, because a network of the
    sizes in a damaged header might not fit into memory.
    """
    network = KINDS[card.kind].network
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


def _fill(network: Network, state: State, path: Path | str) -> Network:
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
