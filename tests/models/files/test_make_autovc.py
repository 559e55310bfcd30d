"""The script that makes a weight file of the averaged weights of training runs."""

import runpy

import torch

from helpers import ROOT, TINY
from vc_lightning.common import resources
from vc_lightning.models import checkpoints
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import Card


def test_a_mean_of_weights_with_the_attention_of_others(tmp_path, mel_settings):
    main = runpy.run_path(str(ROOT / "scripts/weights/make_autovc.py"), run_name="imported")["main"]
    files, states = [], []
    for seed in range(3):
        torch.manual_seed(seed)
        network = AutoVC(**TINY, dim_features=6, dim_reference=16)
        card = Card("autovc", network.arguments, mel_settings, step=100 * seed)
        files.append(checkpoints.save(tmp_path / f"{seed}.safetensors", network.state_dict(), card))
        states.append(network.state_dict())
    shipped = resources.AUTOVC.read_bytes()
    main(files[:2], files[2], tmp_path / "mean.safetensors")
    assert resources.AUTOVC.read_bytes() == shipped
    network, card = checkpoints.read_autovc(tmp_path / "mean.safetensors")
    assert card.step == 100
    for name, value in network.state_dict().items():
        if name.startswith("reference."):
            assert torch.equal(value, states[2][name])
        else:
            expected = (states[0][name].double() + states[1][name].double()) / 2
            torch.testing.assert_close(value.double(), expected, check_dtype=False)
