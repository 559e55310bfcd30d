import os
import pickle
import re
import zipfile
from dataclasses import asdict, replace

import pytest
import torch

from helpers import TINY, tiny_multiband
from vc_lightning.audio.mel import require_same_settings
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.models import checkpoints
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import Card
from vc_lightning.models.files import kinds
from vc_lightning.models.speaker_encoder import DVector
from vc_lightning.models.vocoders.wavernn.network import WaveRNN


def public_autovc(network):
    """The state under the names of the public layout."""
    public = {}
    for key, value in network.state_dict().items():
        key = re.sub(r"(convolutions\.\d+)\.conv\.", r"\1.0.conv.", key)
        key = re.sub(r"(convolutions\.\d+)\.norm\.", r"\1.1.", key)
        key = key.replace("decoder.projection.", "decoder.linear_projection.linear_layer.")
        public[key] = value
    return public


def public_wavernn(network):
    public = {"step": torch.zeros(1)}
    for key, value in network.state_dict().items():
        key = re.sub(r"^input\.", "I.", key)
        key = re.sub(r"smoothing\.(\d+)", lambda m: f"up_layers.{2 * int(m[1]) + 1}", key)
        public[key] = value
    return public


def assert_same_state(network, other):
    ours, theirs = network.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_own_files_round_trip(tiny_checkpoint, tiny_autovc, mel_settings):
    network, card = checkpoints.read_autovc(tiny_checkpoint)
    assert_same_state(network, tiny_autovc)
    assert not network.training
    assert card.network == TINY | {
        "n_mels": 80,
        "f0": False,
        "film": False,
        "dim_features": 0,
        "dim_acoustics": 0,
        "dim_reference": 0,
        "contrast": 0.0,
    }
    assert (card.mel, card.step) == (mel_settings, 7)


def test_infers_f0_inputs_from_shapes():
    for f0 in (True, False):
        network = AutoVC(**TINY, f0=f0)
        assert kinds.sizes_in(network.state_dict(), "autovc", "a file")["f0"] is f0


def test_reads_half_precision(tmp_path, tiny_autovc, mel_settings):
    card = Card("autovc", tiny_autovc.arguments, mel_settings, "ge2e")
    state = tiny_autovc.state_dict()
    path = checkpoints.save(tmp_path / "a.safetensors", state, card, torch.float16)
    network = checkpoints.load_autovc(path)
    weight = network.decoder.projection.weight
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight, tiny_autovc.decoder.projection.weight, atol=1e-3, rtol=1e-3)
    assert path.stat().st_size < 0.6 * sum(v.numel() * v.element_size() for v in state.values())


@pytest.mark.parametrize("wrapper", ["model", "model_state", None])
def test_public_autovc_layouts(tmp_path, tiny_autovc, wrapper):
    state = public_autovc(tiny_autovc)
    content = {wrapper: state, "step": 3, "optimizer_state": {}} if wrapper else state
    torch.save(content, tmp_path / "public.ckpt")
    network, card = checkpoints.read_autovc(tmp_path / "public.ckpt", freq=8)
    assert_same_state(network, tiny_autovc)
    seed = wrapper == "model_state"
    assert card.mel == resources.settings("mel", "wavernn" if seed else "autovc")
    assert card.speaker_encoder == ("ge2e" if seed else "d_vector")


def test_infers_sizes_of_public_autovc(tmp_path):
    torch.save({"model": public_autovc(AutoVC(32, 256, 512, 32))}, tmp_path / "public.ckpt")
    network, card = checkpoints.read_autovc(tmp_path / "public.ckpt")
    assert network.arguments == AutoVC(32, 256, 512, 32).arguments == card.network


@pytest.mark.parametrize(
    ("mode", "factors", "mel"),
    [("MOL", (5, 5, 11), "wavernn"), ("RAW", (4, 8, 8), "autovc"), ("RAW", (5, 5, 8), None)],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_public_wavernn_layouts(tmp_path, mode, factors, mel, wrapped):
    network = WaveRNN(mode, 9, 80, factors, rnn_dims=16, fc_dims=24, res_blocks=3)
    state = public_wavernn(network)
    torch.save({"step": 1, "model_state": state} if wrapped else state, tmp_path / "wave.pyt")
    loaded = checkpoints.load_wavernn(tmp_path / "wave.pyt")
    assert_same_state(loaded, network)
    assert loaded.arguments == network.arguments
    if mel is None:  # Real-Time-Voice-Cloning: loads, and is refused for our mels
        with pytest.raises(InputError, match="hop_length 200 != 256"):
            require_same_settings(
                loaded.mel_settings, resources.settings("mel", "autovc"), "its mels", "ours"
            )
    else:
        assert loaded.mel_settings == resources.settings("mel", mel)


def test_public_d_vector(tmp_path):
    encoder = DVector()
    names = {k.replace("linear.", "embedding."): v for k, v in encoder.state_dict().items()}
    torch.save({"model_b": {f"module.{k}": v for k, v in names.items()}}, tmp_path / "d.ckpt")
    loaded, card = checkpoints.read_speaker_encoder(tmp_path / "d.ckpt")
    assert_same_state(loaded, encoder)
    assert card.kind == "d_vector"


def test_public_ge2e_drops_loss_weights(tmp_path, encoder):
    state = {**encoder.state_dict(), "similarity_weight": torch.ones(1)}
    torch.save({"step": 1, "model_state": state, "optimizer_state": {}}, tmp_path / "e.pt")
    assert_same_state(checkpoints.load_speaker_encoder(tmp_path / "e.pt"), encoder)


def test_identity_depends_on_weights(encoder):
    state = encoder.state_dict()
    name = checkpoints.identity("ge2e", state)
    assert re.fullmatch(r"ge2e-[0-9a-f]{8}", name)
    assert name == checkpoints.identity("ge2e", dict(reversed(state.items())))
    assert name != checkpoints.identity("ge2e", state | {"linear.bias": state["linear.bias"] + 1})


def test_refuses_other_speaker_encoder():
    checkpoints.require_same_encoder("ge2e-12345678", "ge2e-12345678", "it")
    checkpoints.require_same_encoder("ge2e", "ge2e-12345678", "it")
    for wanted, given in [("d_vector", "ge2e-12345678"), ("ge2e-1", "ge2e-2"), ("", "ge2e-1")]:
        with pytest.raises(InputError, match="speaker_encoder="):
            checkpoints.require_same_encoder(wanted, given, "it")


@pytest.mark.parametrize("share", [0, 0.0001, 0.01, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["safetensors", "pickle"])
def test_refuses_truncated_files(tmp_path, tiny_checkpoint, tiny_autovc, kind, share):
    path = tmp_path / "whole.ckpt"
    if kind == "safetensors":
        path.write_bytes(tiny_checkpoint.read_bytes())
    else:
        torch.save({"model": public_autovc(tiny_autovc)}, path)
    checkpoints.read_autovc(path, freq=8)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match="cannot be read"):
        checkpoints.read_autovc(path)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_refuses_decompression_bombs(tmp_path, monkeypatch):
    plain, packed = tmp_path / "plain.pt", tmp_path / "packed.pt"
    torch.save({"model": {"weight": torch.zeros(10_000)}}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as to:
        for name in source.namelist():
            to.writestr(name, source.read(name))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(InputError, match=r"packed\.pt: cannot be read"):
        checkpoints.read_autovc(packed)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_pickled_code_never_runs(tmp_path, writer):
    path, proof = tmp_path / "evil.ckpt", tmp_path / "it-ran"
    content = {"model": Payload(proof)}
    if writer == "torch":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match="never run"):
        checkpoints.read_autovc(path)
    assert not proof.exists()


def test_multi_band_wavernn_round_trips(tmp_path, mel_settings):
    network = tiny_multiband(n_mels=80, hop_length=256).float()
    card = Card(network.kind, network.arguments, mel_settings, step=5)
    path = checkpoints.save(tmp_path / "vocoder.safetensors", network.state_dict(), card)
    again, read = checkpoints.read_network(path, "wavernn", "multiband_wavernn")
    assert read == card
    assert again.mel_settings == mel_settings
    mel = torch.rand(1, 80, 3)
    assert torch.equal(again.generate(mel), network.generate(mel))
    for key, value, message in [
        ("hop_length", 512, "says hop_length 512 for the network, 256 for the mels"),
        ("rnn_dims", 13, "its header says rnn_dims 13, its weights say 12"),
        ("prediction_order", 1, "its header says prediction_order 1, its weights say 3"),
        ("frame_blocks", 10**9, "its header says frame_blocks 1000000000, its weights say 1"),
        ("bands", 2, "its header says bands 2, its weights say 4"),
        ("pad", 9, "its header says pad 9, its weights say 3"),
    ]:
        wrong = replace(card, network=card.network | {key: value})
        checkpoints.save(path, network.state_dict(), wrong)
        with pytest.raises(InputError, match=message):
            checkpoints.load_wavernn(path)


def test_shipped_wavernn_fits_shipped_autovc():
    network, card = checkpoints.read_network(resources.weights("wavernn"), "multiband_wavernn")
    assert card.mel == checkpoints.read_autovc(resources.AUTOVC)[1].mel
    assert card.licence
    assert network.generate(torch.rand(1, 80, 2)).shape == (1, 512)


def test_refuses_other_networks(tmp_path, tiny_autovc, tiny_checkpoint, mel_settings):
    with pytest.raises(InputError, match="holds ge2e weights"):
        checkpoints.load_autovc(resources.SPEAKER_ENCODER)
    with pytest.raises(InputError, match="holds autovc weights"):
        checkpoints.load_speaker_encoder(tiny_checkpoint)
    with pytest.raises(InputError, match="no such"):
        checkpoints.load_autovc(tmp_path / "missing")
    torch.save({"layer": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="none of the known networks"):
        checkpoints.load_autovc(tmp_path / "other.pt")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(InputError, match="Tensor"):
        checkpoints.load_autovc(tmp_path / "tensor.pt")

    state, card = checkpoints.read(tiny_checkpoint, "autovc")
    path = tmp_path / "changed.safetensors"
    checkpoints.save(path, state, replace(card, network=card.network | {"dim_pre": 17}))
    with pytest.raises(InputError, match="its header says dim_pre 17, its weights say 16"):
        checkpoints.load_autovc(path)
    checkpoints.save(path, {k: v for k, v in state.items() if "projection" not in k}, card)
    with pytest.raises(InputError, match="not a whole AutoVC"):
        checkpoints.load_autovc(path)
    checkpoints.save(path, {k: v for k, v in state.items() if k != "encoder.lstm.bias_hh_l1"}, card)
    with pytest.raises(InputError, match=r"lacks weight encoder\.lstm\.bias_hh_l1"):
        checkpoints.load_autovc(path)
    checkpoints.save(path, state, replace(card, network=card.network | {"size": 1}))
    with pytest.raises(InputError, match="header"):
        checkpoints.load_autovc(path)


def test_refuses_non_finite_weights(tmp_path, tiny_checkpoint, tiny_autovc):
    state, card = checkpoints.read(tiny_checkpoint, "autovc")
    before = tiny_checkpoint.read_bytes()
    state["decoder.projection.bias"][3] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        checkpoints.save(tiny_checkpoint, state, card)
    assert tiny_checkpoint.read_bytes() == before
    tiny_autovc.decoder.projection.bias.data[3] = float("inf")
    torch.save({"model": public_autovc(tiny_autovc)}, tmp_path / "inf.ckpt")
    with pytest.raises(InputError, match="diverged"):
        checkpoints.load_autovc(tmp_path / "inf.ckpt", freq=8)


def test_refuses_headers_of_other_types(tmp_path, tiny_checkpoint):
    state, card = checkpoints.read(tiny_checkpoint, "autovc")
    path = tmp_path / "a.safetensors"
    for changes in ({"step": "7"}, {"network": None}, {"speaker_encoder": 5}):
        checkpoints.save(path, state, replace(card, **changes))
        with pytest.raises(InputError, match="not of this version"):
            checkpoints.load_autovc(path)


def test_failed_save_keeps_old_file(tmp_path, tiny_checkpoint, monkeypatch):
    before = tiny_checkpoint.read_bytes()

    def full_disk(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(checkpoints, "save_file", full_disk)
    with pytest.raises(OSError, match="space"):
        checkpoints.save(tiny_checkpoint, {}, Card("autovc", {}, {}))
    assert tiny_checkpoint.read_bytes() == before
    assert list(tmp_path.iterdir()) == [tiny_checkpoint]


def test_refuses_damaged_last_ckpt(tmp_path, mel_settings):
    """One turned bit, which PyTorch reads without a word."""
    card = asdict(Card("autovc", {}, mel_settings, "ge2e"))
    parts = ("state_dict", "optimizer_states", "lr_schedulers", "loops")
    content = {part: {"weight": torch.ones(1000)} for part in parts} | {"card": card}
    path = tmp_path / "last.ckpt"
    torch.save(content | {"callbacks": {"EMA": {"average": {"weight": torch.ones(1)}}}}, path)
    assert checkpoints.read_training(path)[0].kind == "autovc"
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(torch.ones(1000).numpy().tobytes()) + 100] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(InputError, match="is damaged"):
        checkpoints.read_training(path)


def test_refuses_arguments_of_other_types(tmp_path, mel_settings):
    network = tiny_multiband(n_mels=80, hop_length=256).float()
    for temperature, message in [([], "give a number"), (1e400, "temperature=inf")]:
        arguments = network.arguments | {"temperature": temperature}
        card = Card(network.kind, arguments, mel_settings)
        path = checkpoints.save(tmp_path / "a.safetensors", network.state_dict(), card)
        with pytest.raises(InputError, match=message):
            checkpoints.load_wavernn(path)
