"""What the tests of the server share: it runs in a thread; requests as programs send them."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from helpers import SOURCE, TARGET, write_wav
from vc_lightning.conversion.measuring import MeasuredConversion

httpx = pytest.importorskip("httpx", reason="the extra serve is not installed")
server = pytest.importorskip("vc_lightning.service.server", reason="the extra serve is missing")

LIMITS = {
    "max_seconds": 20,
    "max_megabytes": 1,
    "max_targets": 2,
    "max_requests": 8,
    "batch_size": 4,
    "batch_seconds": 60,
    "transfer_seconds": 120,
    "wait_seconds": 120,
}
LIVE_LIMITS = {
    "live.max_clients": 1,
    "live.max_waiting": 1,
    "live.max_seconds": 20,
    "live.idle_seconds": 5,
    "live.block_seconds": 0.08,  # whatever the computer affords
}
CLIENT = httpx.Client(verify=False, timeout=60)  # reading certificates takes long


@contextmanager
def running(api, stop_seconds=20):
    """Serve an API in a thread; give its address and the server."""
    made = server.Server(api, stop_seconds)
    with server.bind("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]})
        thread.start()
        eventually(lambda: made.started)
        try:
            yield server.address_of(listener), made
        finally:
            made.handle_exit(signal.SIGTERM, None)
            thread.join(30)
            assert not thread.is_alive()


def eventually(condition, seconds=20):
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


class Slow:
    """Takes the place of the conversion: gives a short sound when it may."""

    def __init__(self):
        self.may_go = threading.Event()
        self.batches = []

    def __call__(self, batch, progress):
        self.batches.append(len(batch))
        while not self.may_go.wait(0.02):
            progress(0.5)
        wav = np.full(1600, 0.1, np.float32)
        return [MeasuredConversion(wav, 0.1, 0.5, 0.6, 0.7) for _ in batch]


def form(source=SOURCE, *targets):
    """The files of a request, as httpx takes them."""
    paths = [("source", source), *(("target", target) for target in targets or [TARGET])]
    return [(field, (path.name, path.read_bytes())) for field, path in paths]


def ask(address, files=None, data=None, **options):
    files = form() if files is None else files
    return CLIENT.post(f"{address}/convert", files=files, data=data, **options)


def error_of(response, status):
    """The one sentence of an answer."""
    assert response.status_code == status, response.text
    content = response.json()
    assert list(content) == ["error"]
    sentence = content["error"]
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    assert "/tmp" not in sentence
    return sentence


def files(folder):
    """The files in a folder and its folders, of which some may be deleted meanwhile."""
    return sorted(Path(inside, name) for inside, _, names in os.walk(folder) for name in names)


def broken(tmp_path, name, content=b"", seconds=0.0):
    path = tmp_path / name
    if seconds:
        rng = np.random.default_rng(0)
        return write_wav(path, rng.standard_normal(int(16_000 * seconds)) * 0.1)
    path.write_bytes(content)
    return path


# The page, as gradio_client calls it.


def upload(address, name, content):
    answer = CLIENT.post(f"{address}/gradio_api/upload", files={"files": (name, content)})
    return answer.json()[0] if answer.status_code == 200 else answer


@cache
def event(address, function):
    """The number of an event of the page."""
    config = CLIENT.get(f"{address}/config").json()
    return next(d["id"] for d in config["dependencies"] if d["api_name"] == function)


def call(address, function, data, session="tester"):
    """Trigger an event of the page; what comes back, as text."""
    joined = join(address, function, data, session)
    if joined.status_code != 200:
        return joined.text
    with CLIENT.stream(
        "GET", f"{address}/gradio_api/queue/data?session_hash={session}", timeout=60
    ) as stream:
        return "".join(stream.iter_text())


def join(address, function, data, session):
    """Trigger an event of the page; its answer must be asked for."""
    body = {"data": data, "fn_index": event(address, function), "session_hash": session}
    return CLIENT.post(f"{address}/gradio_api/queue/join", json=body)


def given(path):
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def arguments(source, target, more=None):
    more = None if more is None else [given(path) for path in more]
    return [given(source), "", given(target), more, "tiny", "auto", 0, 0]
