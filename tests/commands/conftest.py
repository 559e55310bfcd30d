"""Shared by the tests of the commands."""

import pytest

from helpers import TARGET, composed
from vc_lightning.commands import voices as command


@pytest.fixture
def voices(tiny_checkpoint, tmp_path):
    """Run the job of voices.py with a tiny network."""

    def voices(verb, **settings):
        settings = (
            {
                "verb": verb,
                "ckpt": tiny_checkpoint,
                "vocoder": "griffin_lim",
                "vocoder.n_iter": 1,
                "voices.dir": tmp_path / "voices",
            }
            | ({"target": TARGET} if verb == "learn" else {})
            | settings
        )
        command.main(composed("voices", *(f"{k}={v}" for k, v in settings.items())))

    voices.folder = tmp_path / "voices"
    return voices
