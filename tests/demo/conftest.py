"""The page's service with a tiny network, and one server for all tests."""

import os
import socket
from pathlib import Path

import pytest

from helpers import SOURCE, TARGET, composed
from vc_lightning.commands import app
from vc_lightning.conversion import voice_library as voices
from vc_lightning.conversion.consent import Statement

NO_SOURCE_FILTER = "~vocoder@vocoders.source_filter"  # the page's first choice, a real network


@pytest.fixture(scope="session")
def service(tmp_path_factory, shared_checkpoint):
    """What `python app.py ckpt=tiny` offers, with one round of Griffin-Lim."""
    quick = {
        "ckpt": shared_checkpoint,
        "vocoders.griffin_lim.n_iter": 1,
        "guidance": 0,
        "max_seconds": 20,
    }
    quick |= {"voices.dir": tmp_path_factory.mktemp("voices")}
    quick |= {"vocoders.griffin_lim.magnitude": "null", "max_megabytes": 1}
    overrides = [f"{key}={value}" for key, value in quick.items()]
    service = app.build_service(composed("app", NO_SOURCE_FILTER, *overrides))
    converter = service.converter("tiny", "griffin_lim")
    voice = converter.voice(TARGET)
    credit = {"made_by": "Ben <b>", "consent": Statement("Use it & say so.", None, "2026-11-24")}
    voices.save(service.voices, "Ann", voice, converter.encoder_identity, 1, 8.8, **credit)
    return service


@pytest.fixture(scope="session")
def served(service):
    """The page's address, and the folder that holds what people upload."""
    server = pytest.importorskip(
        "vc_lightning.demo.server", reason="the extra demo is not installed"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    limits = {"max_waiting": 2, "keep_minutes": 60, "examples": [SOURCE, TARGET]}
    live_limits = server.LiveLimits(max_seconds=20, idle_seconds=5, max_waiting=1)
    with server.serving(service, live_limits, host="127.0.0.1", port=port, **limits) as address:
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        yield address.rstrip("/"), folder
    assert not folder.exists()  # nothing is left when the server stops
    assert not folder.parent.exists()
