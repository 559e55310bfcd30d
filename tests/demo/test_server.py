"""The page's server, as programs see it."""

import os
import shutil
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers import SOURCE, TARGET, write_wav
from page_helpers import arguments, call, eventually, httpx, upload
from vc_lightning.commands import app
from vc_lightning.common.errors import InputError
from vc_lightning.conversion import provenance

gradio_client = pytest.importorskip("gradio_client", reason="the extra demo is not installed")
websockets = pytest.importorskip("websockets.sync.client", reason="the extra demo is missing")
InvalidStatus = pytest.importorskip("websockets.exceptions").InvalidStatus
server = pytest.importorskip("vc_lightning.demo.server", reason="the extra demo is not installed")

LIVE = server.LiveLimits(max_seconds=9, idle_seconds=9, max_waiting=1)
pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:gradio")


def test_refuses_bad_settings(service):
    good = {"host": "127.0.0.1", "port": 1, "max_waiting": 1, "keep_minutes": 1, "examples": []}
    for key, value in {"port": 0, "max_waiting": 0, "keep_minutes": 0}.items():
        with pytest.raises(InputError, match=f"^{key}={value}: give"):
            server.serving(service, LIVE, **good | {key: value}).__enter__()


def test_refuses_taken_port(service):
    before = os.environ.get("GRADIO_TEMP_DIR")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        limits = {"max_waiting": 1, "keep_minutes": 1, "examples": []}
        serving = server.serving(service, LIVE, host="127.0.0.1", port=port, **limits)
        with pytest.raises(InputError, match=f"port={port}: is taken"), serving:
            pass
    assert os.environ.get("GRADIO_TEMP_DIR") == before


def test_reads_uploads_only(served, tmp_path, monkeypatch):
    """Not the computer's files, not those beside the uploads, not what an address names."""
    address, folder = served
    fetched = []

    async def fetch(url, cache_dir):
        fetched.append(url)
        return shutil.copy(SOURCE, cache_dir)

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", fetch)
    good = upload(address, "good.wav", SOURCE.read_bytes())
    own = write_wav(tmp_path / "own.wav", soundfile.read(SOURCE)[0])
    for foreign in (
        "/etc/passwd",
        own,
        SOURCE,
        folder / ".." / ".." / "x.wav",
        f"{folder}/../../../{own}",
        "https://example.org/a.wav",
        "file:///etc/passwd",
        "",
    ):
        for data in (
            arguments(foreign, good),
            arguments(good, foreign),
            arguments(good, good, [foreign]),
        ):
            answer = call(address, "press_convert", data)
            assert answer.startswith("only recordings that were uploaded here"), (foreign, answer)
    assert fetched == []
    assert '"success":true' in call(address, "press_convert", arguments(good, good))


@pytest.mark.parametrize(
    ("content", "status"), [(b"[" * 100_000, 400), (b"{", 400), (b'"' + b"x" * 2**18 + b'"', 413)]
)
def test_refuses_malformed_requests(served, content, status):
    answer = httpx.post(f"{served[0]}/gradio_api/queue/join", content=content)
    assert answer.status_code == status


def test_endpoint_for_programs(served, service):
    client = client_of(served)
    source, target = (gradio_client.handle_file(path) for path in (SOURCE, TARGET))
    for voice in ({"more": [target]}, {"learned": "Ann"}):
        path, numbers = client.predict(source=source, **voice, api_name="/convert")
        wav = soundfile.read(path, dtype="float32")[0]
        expected = service.converter("tiny", "griffin_lim").convert(SOURCE, TARGET)
        np.testing.assert_allclose(wav, expected / max(1, np.abs(expected).max()), atol=1e-4)
        assert numbers["similarity_to_source"][0] == pytest.approx(1)
    assert provenance.read(Path(path)).vocoder == "GriffinLim"


def test_endpoint_has_same_limits(served, tmp_path):
    client = client_of(served)
    source = gradio_client.handle_file(SOURCE)
    noise = np.random.default_rng(0).standard_normal(16_000 * 21) * 0.1
    long = gradio_client.handle_file(write_wav(tmp_path / "long.wav", noise))
    for keys, sentence in (
        ({"source": source}, "There is no voice yet"),
        ({"source": long, "learned": "Ann"}, "long.wav: lasts 21 s; give at most 20 s"),
        ({"source": source, "learned": "Ann", "guidance": 99}, "guidance=99"),
        ({"source": source, "learned": "../Ann"}, "voice '../Ann'"),
        ({"source": str(SOURCE), "learned": "Ann"}, "Only recordings that were uploaded here"),
        ({"source": "https://example.org/a.wav", "learned": "Ann"}, "Only recordings that were"),
    ):
        with pytest.raises(gradio_client.exceptions.AppError, match=sentence):
            client.predict(**keys, api_name="/convert")


def client_of(served):
    return gradio_client.Client(served[0], verbose=False)


def test_refuses_live_speech_of_other_sites(served):
    address = served[0].replace("http", "ws")
    assert httpx.get(f"{served[0]}/live/live.js").status_code == 200
    with websockets.connect(f"{address}/live/speak", origin=served[0]) as socket:
        socket.send('{"ticket": "none", "sample_rate": 16000}')
        assert "ticket is not valid" in socket.recv()
    for path, origin in (("/live/speak", "https://example.org"), ("/elsewhere", served[0])):
        with pytest.raises(InvalidStatus):
            websockets.connect(f"{address}{path}", origin=origin)


def test_serves_uploads_and_results_only(served):
    address, folder = served
    for path in ("/etc/passwd", SOURCE, f"{folder}/../../../etc/passwd", folder, app.__file__):
        assert httpx.get(f"{address}/gradio_api/file={path}").status_code in (403, 404), path


@pytest.mark.parametrize(
    "route",
    [
        "gradio_api/file=http://127.0.0.1:1/",
        "gradio_api/proxy=http://127.0.0.1:1/",
        "gradio_api/openapi.json",
        "gradio_api/mcp/",
        "monitoring",
        "gradio_api/deep_link",
        "gradio_api/runs",
    ],
)
def test_closes_unused_routes(served, route):
    assert httpx.get(f"{served[0]}/{route}").status_code == 404


def test_refuses_paths_outside_folder(served):
    address, folder = served
    path = Path(upload(address, "../../../escape.wav", SOURCE.read_bytes()))
    assert path.resolve().is_relative_to(folder)


def test_refuses_large_upload(served):
    answer = upload(served[0], "large.wav", bytes(1_100_000))
    assert answer.status_code == 413


def test_full_queue(served, service, monkeypatch):
    address, _ = served
    good = upload(address, "good.wav", SOURCE.read_bytes())
    go_on, begun = threading.Event(), threading.Event()

    def wait(*_):
        begun.set()
        go_on.wait(120)
        raise InputError("waited")

    monkeypatch.setattr(service, "convert", wait)
    answers = {}
    threads = [
        threading.Thread(
            target=lambda n=n: answers.update(
                {n: call(address, "press_convert", arguments(good, good), f"s{n}")}
            )
        )
        for n in range(4)
    ]
    for thread in threads:  # one runs, two wait, one is sent away
        thread.start()
        assert begun.wait(10)
        time.sleep(0.3)
    eventually(lambda: 3 in answers)
    go_on.set()
    for thread in threads:
        thread.join()
    assert "Queue is full" in answers[3]
    assert all("Waited." in answers[n] for n in range(3))
