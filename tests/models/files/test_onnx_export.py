"""The exported network gives in ONNX Runtime what it gives in PyTorch."""

import json
import subprocess
import sys
from dataclasses import asdict

import onnx
import onnxruntime
import pytest
import torch

from helpers import ROOT, TINY, refusal
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.models import checkpoints
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import Card
from vc_lightning.models.files import onnx_export
from vc_lightning.models.files.onnx_export import export_converter

SIZES = [(1, 1), (1, 7), (2, 8), (3, 50), (1, 375), (5, 16)]  # multiples of freq and others


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def inputs(network, batch, n_frames):
    n_mels, dim_emb = network.arguments["n_mels"], network.arguments["dim_emb"]
    voices = torch.nn.functional.normalize(torch.randn(2, batch, dim_emb), dim=-1)
    given = {"mel": torch.rand(batch, n_mels, n_frames)}
    given |= {"source_embedding": voices[0], "target_embedding": voices[1]}
    if network.f0:
        given["harmonics"] = torch.rand(batch, n_mels + 2, n_frames)
    return given


def require_same_results(path, network, sizes):
    running = session(path)
    torch.manual_seed(0)
    for batch, n_frames in sizes:
        given = inputs(network, batch, n_frames)
        assert [each.name for each in running.get_inputs()] == list(given)
        [found] = running.run(None, {name: tensor.numpy() for name, tensor in given.items()})
        with torch.no_grad():  # of a network that listens, the live half
            codes = network.encode_live(given["mel"], given["source_embedding"])
            harmonics = given.get("harmonics")
            made = network.decode(codes, n_frames, given["target_embedding"], harmonics)[1]
            expected = network.sharpened(made)
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=0)


def trained_like(network):
    """Weights at which every part counts: an untrained postnet adds nearly nothing."""
    torch.manual_seed(1)
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand_like(tensor) if "norm" in name else tensor * 2)
    return network.eval()


@pytest.mark.parametrize(
    "sizes",
    [{}, {"f0": True}, {"f0": True, "dim_features": 3, "dim_acoustics": 9, "contrast": 0.7}],
)
def test_equals_pytorch_at_any_size(sizes, tmp_path, mel_settings):
    torch.manual_seed(0)
    network = trained_like(AutoVC(**TINY | {"freq": 5, "decoder_layers": 2} | sizes))
    card = Card("autovc", network.arguments, mel_settings, "ge2e:abc", "average", 7)
    weights = checkpoints.save(tmp_path / "a.safetensors", network.state_dict(), card)
    path = export_converter(weights, tmp_path / "a.onnx")
    require_same_results(path, network, SIZES)


def test_shipped_network_and_card(tmp_path, monkeypatch):
    monkeypatch.setattr("vc_lightning.models.lstm.HAS_AMX", False)  # the file is in float32
    path = export_converter(resources.AUTOVC, tmp_path / "converter.onnx")
    network, card = checkpoints.read_autovc(resources.AUTOVC)
    require_same_results(path, network, SIZES)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    properties = {each.key: each.value for each in model.metadata_props}
    assert json.loads(properties["vc_lightning"]) == asdict(card)
    assert card.step > 0
    assert card.mel["sample_rate"] == 16_000
    encoder_card = checkpoints.read_speaker_encoder(resources.SPEAKER_ENCODER)[1]
    assert card.speaker_encoder == encoder_card.speaker_encoder


def test_failed_export_leaves_no_file(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(onnx, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        export_converter(resources.AUTOVC, tmp_path / "converter.onnx")
    assert list(tmp_path.iterdir()) == []


def test_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install .vc-lightning\[onnx\]"):
        export_converter(resources.AUTOVC, tmp_path / "converter.onnx")


def test_command_writes_file(tmp_path, tiny_checkpoint):
    done = subprocess.run(
        [sys.executable, ROOT / "export.py", f"ckpt={tiny_checkpoint}", "output=a, b = (c).onnx"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("a, b = (c).onnx: 0.3 MB\n", "")
    network = checkpoints.load_autovc(tiny_checkpoint)
    require_same_results(tmp_path / "a, b = (c).onnx", network, [(2, 13)])
    sentence = "error: output=a.wav: cannot be written; let the name end in .onnx\n"
    assert refusal("export", "output=a.wav") == (2, sentence)
