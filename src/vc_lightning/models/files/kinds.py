"""The kinds of network whose weights files hold: the one table of classes, sizes and uses.

A new vocoder is a `Network` with the members of `vocoders.base.Vocoder`, a row
here, a file in `conf/model/` and one in `conf/vocoder/`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vc_lightning.common.errors import InputError
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.critics.speaker import SpeakerCritic
from vc_lightning.models.network import Network
from vc_lightning.models.recogniser import Recogniser
from vc_lightning.models.vocoders.griffin_lim.network import GriffinLimNet
from vc_lightning.models.vocoders.source_filter.network import SourceFilter
from vc_lightning.models.vocoders.wavernn.multiband import MultiBandWaveRNN
from vc_lightning.models.vocoders.wavernn.network import WaveRNN

State = dict[str, Tensor]

BLOCK_WEIGHTS = 9  # tensors in a block of ConvNeXt
CONVERT = "python convert.py source=source.wav target=target.wav"
ENCODERS = ("ge2e", "d_vector")  # speaker encoders, whose sizes are fixed


@dataclass(frozen=True)
class Kind:
    """A kind of network.

    Attributes:
        network: Its class.
        sizes: Reads arguments of the network off the shapes of its weights.
        sizes_of_mels: Arguments that are mel settings, too.
        is_vocoder: Whether the network turns mels into sound by itself.
        use: Example for a model card on a hub, with `{repo}` for the repository; "" for none.
    """

    network: type[Network]
    sizes: Callable[[State], dict]
    sizes_of_mels: tuple[str, ...] = ()
    is_vocoder: bool = False
    use: str = ""


def sizes_in(state: State, kind: str, path: Path | str) -> dict:
    """Read the arguments of a network off the shapes of its weights.

    Args:
        state: The weights.
        kind: One of `KINDS`.
        path: Their file, for messages.

    Raises:
        InputError: Weights are missing.
    """
    try:
        return KINDS[kind].sizes(state)
    except (KeyError, ValueError, IndexError) as error:
        name = KINDS[kind].network.__name__
        raise InputError(f"{path}: is not a whole {name} network ({error})") from error


def _autovc(state: State) -> dict:
    n_mels, dim_decoder = state["decoder.projection.weight"].shape
    dim_encoder, dim_in, _ = state["encoder.convolutions.0.conv.weight"].shape
    dim_neck = state["encoder.lstm.weight_hh_l0"].shape[1]
    dim_features = dim_in if "features_mean" in state else 0
    dim_acoustics = len(state["clean"]) if "clean" in state else 0
    if dim_features:
        dim_in = state["live_encoder.convolutions.0.conv.weight"].shape[1]
    dim_emb = dim_in - n_mels
    dim_voice = dim_emb + dim_acoustics
    has_reference = "reference.input.weight" in state
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
        "dim_reference": len(state["reference.input.weight"]) if has_reference else 0,
    }


def _wavernn(state: State) -> dict:
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


def _multiband(state: State) -> dict:
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


def _speaker_critic(state: State) -> dict:
    dim, n_mels, _ = state["input.weight"].shape
    dim_emb, n_statistics = state["linear.weight"].shape
    return {"n_mels": n_mels, "dim": dim, "dim_joined": n_statistics // 2, "dim_emb": dim_emb}


def _griffin_lim(state: State) -> dict:
    dim, n_mels, _ = state["input.weight"].shape
    n_blocks = sum(key.startswith("blocks.") for key in state) // 2
    n_bins = len(state["output.weight"])
    return {"n_mels": n_mels, "n_bins": n_bins, "dim": dim, "n_blocks": n_blocks}


def _source_filter(state: State) -> dict:
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


def _recogniser(state: State) -> dict:
    dim, n_mels, _ = state["conv1.weight"].shape
    n_layers = sum(key.endswith(".qkv.weight") for key in state)
    return {"n_mels": n_mels, "dim": dim, "n_layers": n_layers}


_USE_OF_VOCODER = f"{CONVERT} vocoder={{name}} vocoder.path=hf://{{{{repo}}}}"
KINDS = {
    "autovc": Kind(
        AutoVC,
        _autovc,
        ("n_mels",),
        use=(
            "from vc_lightning import VoiceConverter\n\n"
            'converter = VoiceConverter.from_pretrained("{repo}")\n'
            'wav = converter.convert("source.wav", "target.wav")'
        ),
    ),
    "speaker_critic": Kind(SpeakerCritic, _speaker_critic, ("n_mels",)),
    "source_filter": Kind(
        SourceFilter,
        _source_filter,
        ("n_mels", "hop_length", "sample_rate"),
        is_vocoder=True,
        use=_USE_OF_VOCODER.format(name="source_filter"),
    ),
    "wavernn": Kind(WaveRNN, _wavernn, is_vocoder=True, use=_USE_OF_VOCODER.format(name="wavernn")),
    "multiband_wavernn": Kind(
        MultiBandWaveRNN,
        _multiband,
        ("hop_length",),
        is_vocoder=True,
        use=_USE_OF_VOCODER.format(name="wavernn"),
    ),
    "griffin_lim": Kind(
        GriffinLimNet, _griffin_lim, ("n_mels",), use=_USE_OF_VOCODER.format(name="griffin_lim")
    ),
    "recogniser": Kind(Recogniser, _recogniser),
}
