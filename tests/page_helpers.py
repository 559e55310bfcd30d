"""What the tests of the page share: requests as a program sends them, and recordings."""

import time
from functools import cache

import numpy as np
import pytest

from helpers import write_wav
from vc_lightning.demo.service import Settings, VoiceRequest

httpx = pytest.importorskip("httpx", reason="the extra demo is not installed")

SETTINGS = Settings("tiny", "griffin_lim", guidance=0, seed=0)


def voice_request(targets=(), learned="", settings=SETTINGS):
    return VoiceRequest(list(targets), learned, settings)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def eventually(condition, seconds=10):
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


def broken(tmp_path, name, content=b"", seconds=0.0):
    path = tmp_path / name
    if seconds:
        rng = np.random.default_rng(0)
        return write_wav(path, rng.standard_normal(int(16_000 * seconds)) * 0.1)
    path.write_bytes(content)
    return path


def upload(address, name, content):
    answer = httpx.post(f"{address}/gradio_api/upload", files={"files": (name, content)})
    return answer.json()[0] if answer.status_code == 200 else answer


@cache
def event(address, function):
    """The number of an event of the page."""
    config = httpx.get(f"{address}/config").json()
    return next(d["id"] for d in config["dependencies"] if d["api_name"] == function)


def call(address, function, data, session="tester"):
    """Trigger an event of the page; what comes back, as text."""
    body = {"data": data, "fn_index": event(address, function), "session_hash": session}
    joined = httpx.post(f"{address}/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        return joined.text
    with httpx.stream(
        "GET", f"{address}/gradio_api/queue/data?session_hash={session}", timeout=60
    ) as stream:
        return "".join(stream.iter_text())


def given(path):
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def arguments(source, target, more=None):
    more = None if more is None else [given(path) for path in more]
    return [given(source), "", given(target), more, "tiny", "griffin_lim", 0, 0]
