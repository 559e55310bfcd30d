"""The page on the server, as programs see it."""

import contextlib
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from helpers import SOURCE, TARGET, write_wav
from server_helpers import (
    CLIENT,
    arguments,
    call,
    error_of,
    eventually,
    files,
    join,
    running,
    upload,
)
from vc_lightning.commands import app
from vc_lightning.common.errors import InputError
from vc_lightning.conversion import provenance
from vc_lightning.service.page.uploads import Uploads

gradio_client = pytest.importorskip("gradio_client", reason="the extra demo is not installed")
mount = pytest.importorskip("vc_lightning.service.page.mount", reason="the extra demo is missing")
sessions = pytest.importorskip("vc_lightning.service.page.sessions", reason="needs the extra demo")

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:gradio")


def test_refuses_bad_settings(build, tmp_path):
    before = os.environ.get("GRADIO_TEMP_DIR")
    with pytest.raises(InputError, match=r"^keep_minutes=0: give"), mount.mounted(None, 0, []):
        pass
    assert os.environ.get("GRADIO_TEMP_DIR") == before


def test_reads_uploads_only(served, tmp_path, monkeypatch):
    """Not the computer's files, not those beside the uploads, not what an address names."""
    address, folder, _ = served
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
            assert "only recordings that were uploaded here" in answer, (foreign, answer)
    assert fetched == []
    assert '"success":true' in call(address, "press_convert", arguments(good, good))


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"[" * 100_000, 400),
        (b"{", 400),
        (b'"' + b"x" * 2**18 + b'"', 413),
        (b'{"data": [], "fn_index": -1, "session_hash": "s"}', 400),
        (b'{"data": [], "fn_index": [0], "session_hash": "s"}', 400),
    ],
)
def test_refuses_malformed_requests(served, content, status):
    answer = CLIENT.post(f"{served[0]}/gradio_api/queue/join", content=content)
    error_of(answer, status)


def test_log_has_nothing_that_a_client_sent(served, caplog, capfd):
    body = ["a secret", "", None, None, "tiny", "auto", 0, 0]
    assert "secret" not in call(served[0], "press_convert", body)
    assert "an event of the page failed: ValidationError (" in caplog.text
    assert "secret" not in caplog.text
    assert "Traceback" not in "".join(capfd.readouterr())


def test_endpoint_for_programs(served, converter):
    client = client_of(served)
    source, target = (gradio_client.handle_file(path) for path in (SOURCE, TARGET))
    for voice in ({"more": [target]}, {"learned": "Ann"}):
        path, numbers = client.predict(source=source, **voice, api_name="/convert")
        wav = soundfile.read(path, dtype="float32")[0]
        expected = converter.convert(SOURCE, TARGET)
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


def test_serves_the_pages_own_files(served):
    for name in ("live.js", "live_worklet.js", "page.css"):
        assert CLIENT.get(f"{served[0]}/page/{name}").status_code == 200
    assert CLIENT.get(f"{served[0]}/page/../mount.py").status_code == 404


def test_is_part_of_the_service(served):
    """The same server has the page and the other addresses, with one access rule."""
    assert "Say it in another voice" in CLIENT.get(served[0]).text
    assert CLIENT.get(f"{served[0]}/voices").json() == {"voices": ["Ann"]}
    for path in ("/", "/config", "/voices"):
        error_of(CLIENT.get(f"{served[0]}{path}", headers={"Host": "evil.example"}), 403)


def test_serves_uploads_and_results_only(served):
    address, folder, _ = served
    for path in ("/etc/passwd", SOURCE, f"{folder}/../../../etc/passwd", folder, app.__file__):
        assert CLIENT.get(f"{address}/gradio_api/file={path}").status_code in (403, 404), path


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
    assert CLIENT.get(f"{served[0]}/{route}").status_code == 404


def test_refuses_paths_outside_folder(served):
    address, folder, _ = served
    path = Path(upload(address, "../../../escape.wav", SOURCE.read_bytes()))
    assert path.resolve().is_relative_to(folder)


def test_refuses_large_upload(served):
    answer = upload(served[0], "large.wav", bytes(1_100_000))
    assert answer.status_code == 413


def test_refuses_upload_without_files(served):
    sent = {"files": (None, "text")}
    answer = CLIENT.post(f"{served[0]}/gradio_api/upload", files=sent)
    assert error_of(answer, 400) == "files: give recordings, not text"


def test_upload_that_breaks_off_leaves_nothing(served):
    address, folder, api = served
    host, port = address.removeprefix("http://").split(":")
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="cut.wav"\r\n\r\n'
    head = "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n"

    def parts():
        return [path for path in folder.iterdir() if path.is_file()]

    with socket.create_connection((host, int(port)), timeout=30) as client:
        client.sendall(head.encode() + part + bytes(50_000))
        eventually(parts)
        assert api.service.queue.n_requests == 1
    eventually(lambda: api.service.queue.n_requests == 0)
    assert parts() == []
    CLIENT.post(f"{address}/gradio_api/upload", files={"other": ("a.wav", b"1")})
    eventually(lambda: api.service.queue.n_requests == 0)
    assert parts() == []


def take_all_places(api, stack):
    # An upload gives its place back a moment after its answer.
    eventually(lambda: api.service.queue.n_requests == 0)
    for _ in range(api.service.limits.max_requests):
        stack.enter_context(api.service.queue.place())


def test_uploads_have_the_limits_of_the_service(served, monkeypatch):
    address, folder, api = served
    with contextlib.ExitStack() as stack:
        take_all_places(api, stack)
        assert "8 requests" in error_of(upload(address, "a.wav", b"1"), 429)
    limits = api.service.limits
    held = Uploads(folder).n_bytes() / limits.max_requests / 1e6
    monkeypatch.setattr(api.service, "limits", replace(limits, max_megabytes=held + 0.01))
    assert isinstance(upload(address, "a.wav", bytes(90_000)), str)
    assert "too many recordings" in error_of(upload(address, "b.wav", b"1"), 503)


def test_conversions_share_the_queue_of_the_service(served):
    address, _, api = served
    good = upload(address, "good.wav", SOURCE.read_bytes())
    with contextlib.ExitStack() as stack:
        take_all_places(api, stack)
        answer = call(address, "press_convert", arguments(good, good))
        assert "8 requests are being served already; try again later." in answer
    assert '"success":true' in call(address, "press_convert", arguments(good, good))
    eventually(lambda: api.service.queue.n_requests == 0)


def page_of(api):
    apps = (getattr(route, "app", None) for route in api.app.routes)
    return next(app for app in apps if hasattr(app, "get_blocks")).get_blocks()


def remembered(page):
    """The names of the sessions of which Gradio still holds anything."""
    queue = page._queue
    kept = (queue.pending_messages_per_session, queue.pending_event_ids_session)
    return {*page.state_holder.session_data, *page.state_holder.time_last_used}.union(*kept)


def test_forgets_closed_pages(served):
    """Gradio keeps 0.1 MB of every page that was ever open, and messages that nobody reads."""
    address, _, api = served
    page, body = page_of(api), ["", "", None, None, "tiny", "auto", 0, 0]
    for reads in (True, False):
        name = f"closes{reads}"
        with CLIENT.stream("GET", f"{address}/gradio_api/heartbeat/{name}"):
            if reads:
                call(address, "press_convert", body, name)
            else:
                join(address, "press_convert", body, name)
            assert name in remembered(page)
        eventually(lambda name=name: name not in remembered(page))


def test_remembers_so_many_pages(served):
    page = page_of(served[2])
    messages = page._queue.pending_messages_per_session
    for n in range(sessions.MAX_SESSIONS + 10):
        _ = page.state_holder[f"never closed {n}"]
        messages[f"never closed {n}"] = None
    assert len(page.state_holder.session_data) == len(messages) == sessions.MAX_SESSIONS
    for n in range(sessions.MAX_SESSIONS + 10):
        sessions.forget(page, f"never closed {n}")
    messages["closed"].put_nowait("is dropped")
    assert not {name for name in remembered(page) if "closed" in name}


def test_refuses_long_names_of_sessions(served):
    name = "s" * (sessions.MAX_NAME + 1)
    for answer in (
        join(served[0], "press_convert", [], name),
        CLIENT.get(f"{served[0]}/gradio_api/heartbeat/{name}"),
    ):
        assert error_of(answer, 400) == f"session_hash: give at most {sessions.MAX_NAME} characters"


def test_closed_page_ends_its_conversion(build, slow, tmp_path):
    api = build(tmp_path, convert=slow)
    with mount.mounted(api, 60, []) as folder, running(api) as (address, _):
        good = upload(address, "good.wav", SOURCE.read_bytes())
        with CLIENT.stream("GET", f"{address}/gradio_api/heartbeat/leaver"):
            join(address, "press_convert", arguments(good, good), "leaver")
            eventually(lambda: slow.batches)
            assert api.service.queue.n_requests == 1
        eventually(lambda: api.service.queue.n_requests == 0)  # nothing was converted
        assert files(folder) == []
