import pytest

from helpers import refusal
from vc_lightning.common.renamed_keys import current_key, with_current_names


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("loss", "task"),
        ("loss.decoder_weight", "task.decoder_weight"),
        ("data.warps", "data.vtlp_factors"),
        ("callbacks.diagnosis.patience", "callbacks.conversion_monitor.patience"),
        ("judges", "scorers"),
        ("data.warp", None),
        ("losses", None),
        ("task", None),
    ],
)
def test_current_key(old, new):
    assert current_key(old) == new


def test_renames_old_configuration():
    old = {
        "loss": {"_target_": "vc_lightning.lit_autovc.LitAutoVC", "distance": "l1"},
        "data": {
            "_target_": "vc_lightning.data.VoiceDataModule",
            "warps": [0.9],
            "mels_from": None,
        },
        "optimizer": {"_target_": "torch.optim.Adam"},
    }
    assert with_current_names(old) == {
        "task": {"_target_": "AutoVCModule", "distance": "l1"},
        "data": {"_target_": "VoiceDataModule", "vtlp_factors": [0.9]},
        "optimizer": {"_target_": "torch.optim.Adam"},
    }
    assert "loss" in old  # the argument is unchanged


def test_renames_old_vocoder_data():
    data = {"_target_": "vc_lightning.data.VoiceDataModule", "context_frames": 2, "warps": []}
    current = with_current_names({"data": data})["data"]
    assert current == {"_target_": "VocoderDataModule", "context_frames": 2}


@pytest.mark.parametrize(
    ("command", "argument"),
    [
        ("train", "loss=autovc"),
        ("train", "loss.decoder_weight=2"),
        ("train", "data.warps=[0.9]"),
        ("evaluate", "judges=words"),
    ],
)
def test_refuses_old_keys(command, argument):
    key = argument.split("=")[0]
    sentence = f"error: {key}: this key is now called {current_key(key)}\n"
    assert refusal(command, argument) == (2, sentence)
