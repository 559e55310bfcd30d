"""The script that teaches the encoder what streams hear."""

import runpy

import numpy as np
import pytest
import torch

from helpers import ROOT
from vc_lightning import VoiceConverter
from vc_lightning.common import resources
from vc_lightning.models import checkpoints

SCRIPT = ROOT / "scripts/weights/teach_streams.py"
EXAMPLE = ROOT / "examples/source.wav"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT), run_name="imported")


@pytest.fixture(scope="module")
def converter():
    return VoiceConverter.from_pretrained()


def test_it_hears_what_a_stream_hears(script, converter):
    wav = converter.load(EXAMPLE)
    listener = script["Listener"](converter, wav, 0.112)
    stream = converter.stream(
        converter.voice(wav), 0.112, listens=True, source=converter.voice(wav)
    )
    heard = []
    encode = stream._mel_converter.encode
    object.__setattr__(
        stream._mel_converter, "encode", lambda x, voice: heard.append(x) or encode(x, voice)
    )
    stream.push(wav)
    assert len(heard) == len(listener.windows) > 40
    for expected, (_, window) in zip(heard, listener.windows, strict=True):
        np.testing.assert_allclose(window, expected[0].t().numpy(), atol=0.02, rtol=1e-3)


def test_codes_are_those_of_the_same_frames(script, converter):
    """Of what the file hears, in place of the stream, the encoder makes the codes of the file."""
    (one,) = script["hear"](converter, [EXAMPLE])
    codes = one.codes[len(one.codes) // 2]
    with torch.inference_mode():
        of_file = converter.autovc.encode(torch.from_numpy(one.file).float().t()[None], None)[0].t()
    distances = [
        np.abs(of_file[start:][: len(codes)].numpy() - codes).mean()
        for start in range(len(of_file) - len(codes))
    ]
    assert min(distances) < 0.5 * np.median(distances)


def test_only_the_encoder_changes(script, tmp_path):
    manifest = tmp_path / "MANIFEST.tsv"
    rows = [
        f"{ROOT}/examples/{name}.wav\t{split}"
        for name, split in (("source", "train"), ("target", "val"))
    ]
    manifest.write_text("path\tsplit\n" + "\n".join(rows) + "\n")
    output = tmp_path / "taught.safetensors"
    script["main"](resources.AUTOVC, manifest, output, 3)
    before = checkpoints.load_autovc(resources.AUTOVC).state_dict()
    after = checkpoints.load_autovc(output).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("encoder.") for name in changed)
