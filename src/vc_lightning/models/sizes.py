"""The sizes of the networks, as the shapes of their weights tell them."""

from pathlib import Path

from torch import Tensor

from vc_lightning.common.errors import InputError


def found_in(state: dict[str, Tensor], network: str, path: Path | str) -> dict:
    """The arguments of a network ("AutoVC", …) that weights belong to.

    Raises: InputError naming the weights' file when they are not whole.
    """
    try:
        return READERS[network](state)
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"{path}: is not a whole {network} network ({error})") from error


def _autovc(state: dict[str, Tensor]) -> dict:
    n_mels, dim_decoder = state["decoder.projection.weight"].shape
    dim_encoder, dim_in, _ = state["encoder.convolutions.0.conv.weight"].shape
    dim_neck = state["encoder.lstm.weight_hh_l0"].shape[1]
    dim_emb = dim_in - n_mels
    return {
        "dim_neck": dim_neck,
        "dim_emb": dim_emb,
        "dim_pre": state["decoder.lstm1.weight_hh_l0"].shape[1],
        "n_mels": n_mels,
        "dim_encoder": dim_encoder,
        "dim_decoder": dim_decoder,
        "decoder_layers": sum(key.startswith("decoder.lstm2.weight_hh") for key in state),
        "dim_postnet": state["postnet.convolutions.0.conv.weight"].shape[0],
        "f0": state["decoder.lstm1.weight_ih_l0"].shape[1] > 2 * dim_neck + dim_emb,
        "film": "decoder.films.0.linear.weight" in state,
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


READERS = {
    "AutoVC": _autovc,
    "WaveRNN": _wavernn,
    "MultiBandWaveRNN": _multiband,
    "MagnitudeNet": _magnitude,
}
