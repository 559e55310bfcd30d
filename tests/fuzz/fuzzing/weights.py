"""Whole weight files of every layout that is read."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import asdict

import torch
from safetensors.torch import save as safetensors_of
from torch import Tensor, nn

from fuzzing.bench import TINY, Bench
from vc_lightning.common import resources
from vc_lightning.models import checkpoints
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import METADATA_KEY, Card
from vc_lightning.models.speaker_encoder import DVector
from vc_lightning.models.vocoders.wavernn.multiband import MultiBandWaveRNN
from vc_lightning.models.vocoders.wavernn.network import WaveRNN

SMALL = {"rnn_dims": 8, "fc_dims": 8}
SMALL_BANDS = SMALL | {"n_mels": 80, "hop_length": 256, "frame_dims": 8, "frame_blocks": 1}


def whole_files(bench: Bench) -> Iterator[tuple[str, str, bytes]]:
    """Name, the key that reads it (see `checkpoints.readers`) and content of every file.

    They are the shipped ones, a checkpoint of a training run and the public layouts; the networks
    are small where their layout leaves the sizes open.
    """
    torch.manual_seed(0)
    tiny, last = bench.checkpoint.read_bytes(), bench.last.read_bytes()
    yield "tiny AutoVC", "ckpt", tiny
    yield "tiny AutoVC to begin with", "init_from", tiny
    yield "shipped AutoVC", "ckpt", resources.AUTOVC.read_bytes()
    yield "shipped encoder", "speaker_encoder", resources.SPEAKER_ENCODER.read_bytes()
    yield (
        "shipped encoder in a training run",
        "training run's encoder",
        (resources.SPEAKER_ENCODER.read_bytes()),
    )
    yield "shipped WaveRNN", "vocoder.path", resources.weights("wavernn").read_bytes()
    yield "shipped Griffin-Lim", "griffin_lim's path", resources.GRIFFIN_LIM.read_bytes()
    yield "tiny WaveRNN", "vocoder.path", _tiny_multiband()
    yield "last.ckpt", "ckpt_path", last
    yield "last.ckpt as weights", "ckpt", last
    autovc = public_autovc(AutoVC(**TINY))
    yield "public AutoVC", "ckpt", saved({"model": autovc})
    yield "public AutoVC in torch's old format", "ckpt", saved({"model": autovc}, old=True)
    first_version = {"step": 3, "model_state": autovc, "optimizer_state": {}}
    yield "first version's AutoVC", "init_from", saved(first_version)
    wavernn = WaveRNN("RAW", 9, 80, (4, 8, 8), **SMALL, compute_dims=8, res_out_dims=8)
    yield "public WaveRNN", "vocoder.path", saved(public_wavernn(wavernn))
    encoder = checkpoints.load_speaker_encoder().state_dict()
    yield "public GE2E", "speaker_encoder", saved({"step": 1, "model_state": encoder})
    yield "public D_VECTOR", "speaker_encoder", saved({"model_b": public_d_vector(DVector())})


def _tiny_multiband() -> bytes:
    network = MultiBandWaveRNN(**resources.settings("model", "wavernn_multiband") | SMALL_BANDS)
    card = asdict(Card(network.kind, network.arguments, resources.settings("mel", "autovc")))
    return safetensors_of(network.state_dict(), {METADATA_KEY: json.dumps(card)})


def saved(content: object, old: bool = False) -> bytes:
    """What torch.save writes, in its old format if asked."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not old)
    return file.getvalue()


def public_autovc(network: nn.Module) -> dict[str, Tensor]:
    """The weights of an AutoVC under their public names."""
    public = {}
    for key, value in network.state_dict().items():
        key = re.sub(r"(convolutions\.\d+)\.conv\.", r"\1.0.conv.", key)
        key = re.sub(r"(convolutions\.\d+)\.norm\.", r"\1.1.", key)
        public[key.replace("decoder.projection.", "decoder.linear_projection.linear_layer.")] = (
            value
        )
    return public


def public_wavernn(network: nn.Module) -> dict[str, Tensor]:
    """The weights of a WaveRNN under their public names."""
    public = {"step": torch.zeros(1)}
    for key, value in network.state_dict().items():
        key = re.sub(r"^input\.", "I.", key)
        key = re.sub(r"smoothing\.(\d+)", lambda match: f"up_layers.{2 * int(match[1]) + 1}", key)
        public[key] = value
    return public


def public_d_vector(network: nn.Module) -> dict[str, Tensor]:
    """The weights of a D_VECTOR under their public names."""
    state = network.state_dict()
    return {f"module.{key.replace('linear.', 'embedding.')}": state[key] for key in state}
