"""The service as its clients have it: curl and httpx over HTTP, Prometheus' own parser."""

import itertools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile

from helpers import ROOT, SOURCE, TARGET, composed, write_wav
from server_helpers import (
    CLIENT,
    Slow,
    ask,
    error_of,
    eventually,
    form,
    httpx,
    running,
    server,
)
from vc_lightning.audio.files import io as audio
from vc_lightning.commands import serve
from vc_lightning.common.errors import InputError
from vc_lightning.conversion import provenance
from vc_lightning.service.access import is_loopback
from vc_lightning.service.engine.conversions import ConversionService
from vc_lightning.service.form import preferred
from vc_lightning.service.refusal import RefusedError

parser = pytest.importorskip("prometheus_client.parser", reason="the extra serve is missing")

KEY = "0123456789abcdef"


@pytest.fixture(scope="module")
def service(build, tmp_path_factory):
    """What `python serve.py page=false` offers, its address."""
    folder = tmp_path_factory.mktemp("work")
    with running(build(folder)) as (address, _):
        yield address
    assert not list(folder.iterdir())  # every recording and result is gone


def curl(*arguments):
    """What curl gives: the body and the status."""
    command = ["curl", "--silent", "--show-error", "--write-out", "\n%{http_code}", *arguments]
    body, _, status = subprocess.run(command, capture_output=True, check=True).stdout.rpartition(
        b"\n"
    )
    return body, int(status)


# Conversions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "arguments"),
    [("wav", []), ("flac", ["-H", "Accept: audio/flac"]), ("flac", ["-F", "format=flac"])],
)
def test_curl_gets_conversion_with_note(service, converter, tmp_path, form, arguments):
    path = tmp_path / f"made.{form}"
    files = ["-F", f"source=@{SOURCE}", "-F", f"target=@{TARGET}"]
    body, status = curl(*files, *arguments, "--output", str(path), f"{service}/convert")
    assert (body, status) == (b"", 200)
    assert soundfile.info(path).format == form.upper()
    wav, rate = audio.load(path)
    assert rate == converter.sample_rate
    expected = converter.convert(SOURCE, TARGET)
    expected = expected / max(1, np.abs(expected).max())
    assert np.abs(wav - expected).max() <= 1 / 2**15
    assert provenance.read(path).checkpoint == converter.checkpoint


def test_learned_voice(service):
    given = ask(service)
    learned = ask(service, form()[:1], {"voice": "Ann"})
    assert learned.status_code == 200
    assert learned.content[1000:] == given.content[1000:]  # after the date in the note
    assert CLIENT.get(f"{service}/voices").json() == {"voices": ["Ann"]}
    assert "Zoe" in error_of(ask(service, form()[:1], {"voice": "Zoe"}), 400)


def test_concurrent_clients_get_their_own_results(service, speech, tmp_path):
    lengths = [16_000 + 2_000 * index for index in range(6)]
    sources = [write_wav(tmp_path / f"{n}.wav", speech[4000 : 4000 + n]) for n in lengths]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda source: ask(service, form(source)), sources))
    assert [answer.status_code for answer in answers] == [200] * 6
    made = []
    for index, answer in enumerate(answers):
        path = tmp_path / f"made{index}.wav"
        path.write_bytes(answer.content)
        made.append(soundfile.info(path).frames)
    assert made == lengths


def test_waiting_requests_form_a_batch(build, slow, tmp_path):
    made = build(tmp_path, convert=slow)
    with running(made) as (address, _), ThreadPoolExecutor(6) as pool:
        first = pool.submit(ask, address)
        eventually(lambda: slow.batches == [1])
        others = [pool.submit(ask, address) for _ in range(5)]
        eventually(lambda: len(made.service.queue._waiting) == 5)
        slow.may_go.set()
        assert {answer.result().status_code for answer in [first, *others]} == {200}
        assert slow.batches == [1, 4, 1]


def test_long_sources_are_not_batched(build, slow, tmp_path):
    made = build(tmp_path, "batch_seconds=13", convert=slow)
    with running(made) as (address, _), ThreadPoolExecutor(4) as p:
        first = p.submit(ask, address)
        eventually(lambda: slow.batches == [1])
        others = [p.submit(ask, address) for _ in range(3)]  # of six seconds each
        eventually(lambda: len(made.service.queue._waiting) == 3)
        slow.may_go.set()
        assert {answer.result().status_code for answer in [first, *others]} == {200}
        assert slow.batches == [1, 2, 1]


# The queue ---------------------------------------------------------------------------------------


def test_full_queue_gives_retry_after(build, slow, tmp_path):
    with (
        running(build(tmp_path, "max_requests=2", convert=slow)) as (address, _),
        ThreadPoolExecutor(2) as pool,
    ):
        served = [pool.submit(ask, address) for _ in range(2)]
        eventually(lambda: CLIENT.get(f"{address}/health").json()["requests"] == 2)
        refused = ask(address)
        assert "2 requests" in error_of(refused, 429)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        slow.may_go.set()
        assert {answer.result().status_code for answer in served} == {200}
        eventually(lambda: CLIENT.get(f"{address}/health").json()["requests"] == 0)
        assert ask(address).status_code == 200


def test_leaving_client_frees_its_place(build, slow, tmp_path):
    with running(build(tmp_path, convert=slow)) as (address, _):
        request = CLIENT.build_request("POST", f"{address}/convert", files=form())
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        with socket.create_connection((request.url.host, request.url.port)) as client:
            client.sendall(f"POST /convert HTTP/1.1\r\n{head}\r\n".encode() + request.read())
            eventually(lambda: slow.batches == [1], 60)
        eventually(lambda: CLIENT.get(f"{address}/health").json()["requests"] == 0)
        assert not [path for path in tmp_path.iterdir() if path.is_dir()]
        with ThreadPoolExecutor(1) as pool:
            later = pool.submit(ask, address)
            eventually(lambda: slow.batches == [1, 1], 60)  # the first batch has ended by itself
            slow.may_go.set()
            assert later.result().status_code == 200


def test_wait_limit(build, slow, tmp_path):
    with running(build(tmp_path, "wait_seconds=0.3", convert=slow)) as (address, _):
        answer = ask(address)
        assert "0.3 s" in error_of(answer, 503)
        assert "retry-after" in answer.headers


def test_wait_limit_covers_analysis(build, tmp_path, monkeypatch):
    may_go = threading.Event()
    monkeypatch.setattr(ConversionService, "find_voice", lambda *_: may_go.wait(20))
    with running(build(tmp_path, "wait_seconds=0.3")) as (address, _):
        assert "0.3 s" in error_of(ask(address), 503)
        may_go.set()


def test_does_not_analyse_for_clients_that_left(build, tmp_path, monkeypatch):
    may_go, calls = threading.Event(), []

    def prepare(*_):
        calls.append(1)
        may_go.wait(20)
        raise InputError("no")

    monkeypatch.setattr(ConversionService, "find_voice", prepare)
    with running(build(tmp_path)) as (address, _), ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, address)
        eventually(lambda: calls == [1])
        with pytest.raises(httpx.ReadTimeout):
            CLIENT.post(f"{address}/convert", files=form(), timeout=0.3)
        eventually(lambda: CLIENT.get(f"{address}/health").json()["requests"] == 1)
        may_go.set()
        assert error_of(first.result(), 400) == "no"
        assert calls == [1]


def test_failing_conversion_does_not_affect_next(build, tmp_path, caplog):
    outcomes = iter([RuntimeError("secret"), None])

    def convert(batch, progress):
        if error := next(outcomes):
            raise error
        slow = Slow()
        slow.may_go.set()
        return slow(batch, progress)

    with running(build(tmp_path, convert=convert)) as (address, _):
        assert "RuntimeError" in error_of(ask(address), 500)
        assert "RuntimeError (" in caplog.text  # in the log, with its place
        assert "test_service.py" in caplog.text
        assert "secret" not in caplog.text  # it may name a speaker
        assert ask(address).status_code == 200


# Refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "sentence", "files", "data"),
    [
        (400, "source: 0 recordings", form()[1:], {}),
        (400, "source: 2 recordings", [*form(), form()[0]], {}),
        (400, "either target", form()[:1], {}),
        (400, "either target", form(), {"voice": "Ann"}),
        (400, "'loud': is not a field", form(), {"loud": "1"}),
        (400, "guidance=x: give a number", form(), {"guidance": "x"}),
        (400, "guidance=nan", form(), {"guidance": "nan"}),
        (400, "seed=-1", form(), {"seed": "-1"}),
        (400, "vocoder=loud: choose one of auto,", form(), {"vocoder": "loud"}),
        (400, "voice: give text", [form()[0], ("voice", form()[1][1])], {}),
        (400, "source: give a file", form()[1:], {"source": "a.wav"}),
        (400, "format='mp4': choose one of wav", form(), {"format": "mp4"}),
        (400, "source.wav: is not audio", [("source", ("a.wav", b"RIFF")), form()[1]], {}),
        (400, "target1.wav: is not audio", [form()[0], ("target", ("a/../b", b"0"))], {}),
        (400, "name it by", form()[:1], {"voice": "../../etc/passwd"}),
        (400, "Too many files", [*form(), form()[1], form()[1]], {}),
        (400, "exceeded maximum size", form(), {"voice": "x" * 10_000}),
        (413, "at most 1 MB", [("source", ("a.wav", bytes(1_200_000))), form()[1]], {}),
        (415, "send a form", [], {"source": "a"}),
    ],
)
def test_refuses_bad_requests(service, status, sentence, files, data):
    assert sentence in error_of(ask(service, files, data), status)


def test_refuses_long_recording(service, speech, tmp_path):
    long = write_wav(tmp_path / "long.flac", np.tile(speech, 4), subtype="PCM_16")
    assert "lasts" in error_of(ask(service, form(long)), 400)
    content = bytearray(long.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)  # now its header promises nothing
    assert "lasts" in error_of(
        ask(service, [("source", ("a.flac", bytes(content))), form()[1]]), 400
    )


def test_limits_body_without_length(service):
    def endless():
        yield b'--x\r\nContent-Disposition: form-data; name="source"; filename="a"\r\n\r\n'
        for _ in range(100):
            yield bytes(100_000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = CLIENT.post(f"{service}/convert", content=endless(), headers=headers)
    assert "at most 1 MB" in error_of(answer, 413)


def test_ends_slow_upload(build, slow, tmp_path):
    with running(build(tmp_path, "transfer_seconds=0.3", convert=slow)) as (address, _):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(
                b"POST /convert HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
            )
            assert client.recv(100).startswith(b"HTTP/1.1 408 ")


def test_unknown_paths_and_methods(service):
    assert "/docs" in error_of(CLIENT.get(f"{service}/nothing"), 404)
    assert "method" in error_of(CLIENT.get(f"{service}/convert"), 405)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "wav"),
        ("*/*", "wav"),
        ("audio/flac", "flac"),
        ("audio/wav;q=0.5, audio/flac", "flac"),
        ("audio/flac;q=0.2, audio/*;q=0.8", "wav"),
        ("text/html, */*;q=0.1", "wav"),
    ],
)
def test_accept_header_chooses_format(accept, expected):
    assert preferred(accept) == expected


@pytest.mark.parametrize("accept", ["text/html", "audio/flac;q=0", "audio/mpeg", ";;,"])
def test_refuses_unknown_format(accept):
    with pytest.raises(RefusedError, match="audio/wav or audio/flac"):
        preferred(accept)


@pytest.fixture(scope="module")
def fuzzing():
    """The pool of the fuzz."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tests" / "fuzz")
        from fuzzing import audio, damage
    return {"sounds": audio.sounds, "written": audio._written, "damaged": damage.damaged}


SOUNDS = ("0 s", "0.1 s", "1e-40 times", "3e+38 times", "one NaN", "silence", "DC", "click")


def test_refuses_hostile_recordings(service, fuzzing, speech, caplog):
    rng = random.Random(0)
    wholes = [
        fuzzing["written"](speech[:16_000], *kind, 16_000, 1)
        for kind in (
            ("WAV", "PCM_16"),
            ("FLAC", "PCM_16"),
            ("OGG", "VORBIS"),
            ("MP3", "MPEG_LAYER_III"),
        )
    ]
    contents = [fuzzing["damaged"](rng.choice(wholes), rng) for _ in range(8)]
    for name, wav in fuzzing["sounds"](speech[:16_000], 16_000):
        if name in SOUNDS:
            contents.append(fuzzing["written"](wav, "WAV", "FLOAT", 16_000, 1))
    statuses = set()
    for content, field in zip(contents, itertools.cycle(["source", "target"]), strict=False):
        files = dict(form()) | {field: ("strange.wav", content)}
        answer = ask(service, list(files.items()))
        if answer.status_code != 200:
            error_of(answer, 400)
        statuses.add(answer.status_code)
    assert statuses == {200, 400}
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info]


def test_survives_hostile_bytes(service, caplog):
    host, port = service.removeprefix("http://").split(":")
    head = b"POST /convert HTTP/1.1\r\nHost: localhost\r\n"
    multipart = head + b"Content-Type: multipart/form-data; boundary="
    for content in (
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        head + b"Content-Length: -1\r\n\r\n",
        head + b"Content-Length: 99999999999999999999999999\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        multipart + b"\r\n\r\n",
        multipart + b"x\r\nContent-Length: 4\r\n\r\n\xff\xff\xff\xff",
        multipart + b"x; charset=zlib\r\nContent-Length: 5\r\n\r\n--x--",
        multipart + b"x\r\nContent-Length: 9\r\n\r\n--x\r\n\r\n\r\n",
        multipart + b"x\r\nContent-Length: 100\r\n\r\n--x\r\n",  # and leaves
    ):
        with socket.create_connection((host, int(port)), timeout=10) as client:
            client.sendall(content)
            client.shutdown(socket.SHUT_WR)
            while client.recv(10_000):
                pass
    assert not [record for record in caplog.records if record.exc_info]
    assert CLIENT.get(f"{service}/health").json()["requests"] == 0
    assert ask(service).status_code == 200


# Keys --------------------------------------------------------------------------------------------


def test_requires_key(build, slow, tmp_path):
    slow.may_go.set()
    with running(build(tmp_path, "host=0.0.0.0", convert=slow, keys=[KEY, KEY[::-1]])) as (
        address,
        _,
    ):
        for headers in ({}, {"X-API-Key": KEY[1:]}, {"Authorization": "Bearer é".encode()}):
            for method, path in (("POST", "/convert"), ("GET", "/voices"), ("GET", "/metrics")):
                answer = CLIENT.request(method, f"{address}{path}", headers=headers)
                assert "key" in error_of(answer, 401)
                assert answer.headers["www-authenticate"] == "Bearer"
        for headers in ({"X-API-Key": KEY}, {"Authorization": f"Bearer {KEY[::-1]}"}):
            assert ask(address, headers=headers).status_code == 200
        assert CLIENT.get(f"{address}/health").status_code == 200


def test_public_host_needs_key(overrides, tmp_path, monkeypatch):
    monkeypatch.delenv("VC_API_KEY", raising=False)
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org"):
        with pytest.raises(InputError, match="set VC_API_KEY"):
            serve.build_api(composed("serve", *overrides, f"host='{host}'"), tmp_path)
    keys = tmp_path / "keys"
    for content, sentence in (("", "is empty"), ("short", "has 5 characters")):
        keys.write_text(content)
        with pytest.raises(InputError, match=sentence):
            serve.build_api(
                composed("serve", *overrides, "host=0.0.0.0", f"api_key_file={keys}"), tmp_path
            )
    keys.write_text(f"{KEY}\nabcdefghijklmnop\n")
    monkeypatch.setenv("VC_API_KEY", "0" * 20)
    cfg = composed("serve", f"api_key_file={keys}")
    assert serve.api_keys(cfg) == ["0" * 20, KEY, "abcdefghijklmnop"]
    assert is_loopback("127.8.9.1")
    assert is_loopback("::1")
    assert not is_loopback("127.0.0.1.example.org")


@pytest.mark.parametrize("header", ["Host", "Origin"])
def test_refuses_pages_of_other_sites(service, header):
    answer = CLIENT.get(f"{service}/voices", headers={header: "http://evil.example"})
    assert header in error_of(answer, 403)


# Around it ---------------------------------------------------------------------------------------


def test_metrics_format(build, slow, tmp_path):
    slow.may_go.set()
    with running(build(tmp_path, convert=slow)) as (address, _):
        assert ask(address).status_code == 200
        ask(address, [])
        CLIENT.get(f"{address}/a/b")
        answer = CLIENT.get(f"{address}/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    answers = {
        dict(labels)["path"] + " " + dict(labels)["status"]: value
        for (name, *labels), value in samples.items()
        if name == "vc_answers_total"
    }
    assert answers == {"/convert 200": 1, "/convert 415": 1, "other 404": 1}
    assert samples["vc_sound_seconds_total",] == pytest.approx(6.05, abs=0.01)
    assert samples["vc_batch_size_count",] == samples["vc_batch_size_sum",] == 1
    assert samples["vc_requests",] == 0
    assert samples["process_resident_memory_bytes",] > 1e6


def test_openapi_page_is_offline(service):
    page = CLIENT.get(f"{service}/docs").text
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(links) >= 3
    for link in links:
        assert CLIENT.get(f"{service}{link}").status_code == 200
    paths = CLIENT.get(f"{service}/openapi.json").json()["paths"]
    assert set(paths) == {"/convert", "/voices", "/metrics", "/health"}
    assert {"200", "413", "429", "503"} <= set(paths["/convert"]["post"]["responses"])


def test_page_is_a_choice():
    assert serve.has_page(composed("app"))
    assert not serve.has_page(composed("serve", "page=false"))
    with pytest.raises(InputError, match="page=maybe: choose one of true, false, auto"):
        serve.has_page(composed("serve", "page=maybe"))


def test_browser_opens_only_where_there_is_a_screen(monkeypatch):
    opened = []
    monkeypatch.setattr(serve.webbrowser, "open", opened.append)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    serve.open_page("http://one")
    monkeypatch.setenv("DISPLAY", ":0")
    serve.open_page("http://two")
    eventually(lambda: opened == ["http://two"])


def test_public_name_lets_everyone_in_who_uses_it(build, slow, tmp_path):
    made = build(tmp_path, "public_name=voice.example.org", convert=slow)
    with running(made) as (address, _):
        for host, status in (("voice.example.org", 200), ("x.org", 403), ("localhost:1", 200)):
            assert CLIENT.get(f"{address}/voices", headers={"Host": host}).status_code == status
        headers = {"Host": "voice.example.org", "Origin": "https://voice.example.org"}
        assert CLIENT.get(f"{address}/voices", headers=headers).status_code == 200
        headers["Origin"] = "https://x.org"
        assert "Origin" in error_of(CLIENT.get(f"{address}/voices", headers=headers), 403)
    with pytest.raises(InputError, match=r"public_name=a\.b: opens the service"):
        build(tmp_path, "public_name=a.b", keys=[KEY])


def test_uploads_that_cannot_be_stored_are_refused(build, slow, tmp_path, caplog):
    folder = tmp_path / "gone"
    folder.mkdir()
    with running(build(folder, convert=slow)) as (address, _):
        folder.rmdir()  # as on a full or lost disk
        assert "cannot store recordings now" in error_of(ask(address), 503)
    assert str(tmp_path) not in caplog.text


def test_stop_refuses_slow_requests(build, slow, tmp_path):
    with (
        running(build(tmp_path, convert=slow), stop_seconds=0.2) as (address, made),
        ThreadPoolExecutor(1) as pool,
    ):
        begun = pool.submit(ask, address)
        eventually(lambda: slow.batches == [1])
        made.handle_exit(signal.SIGTERM, None)
        assert "stopping" in error_of(begun.result(), 503)


@pytest.mark.parametrize("seconds", [0, 20])
def test_server_that_hangs_is_overdue(build, tmp_path, monkeypatch, seconds):
    """A thread tells the program, which then deletes the recordings and ends."""
    monkeypatch.setattr(server, "OVERDUE_SECONDS", 0.5)
    called = threading.Event()
    api = build(tmp_path)
    made = server.Server(api, 0.1, overdue=called.set)
    monkeypatch.setattr(api.service, "abandon", lambda: called.wait(seconds))
    with server.bind("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]})
        thread.start()
        eventually(lambda: made.started)
        made.handle_exit(signal.SIGTERM, None)
        thread.join(30)
    assert called.wait(1) == bool(seconds)


def test_sigterm_finishes_running_requests(overrides, speech, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    long = write_wav(tmp_path / "long.wav", np.tile(speech, 5)[: 30 * 16_000])
    command = [sys.executable, ROOT / "serve.py", *overrides, "max_seconds=120", "max_megabytes=9"]
    command += ["page=false", "stop_seconds=60"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    try:
        address = re.search(r"listening at (\S+)", process.stdout.readline())[1]
        with ThreadPoolExecutor(1) as pool:
            begun = pool.submit(ask, address, form(long))
            eventually(lambda: CLIENT.get(f"{address}/health").json()["requests"] == 1)
            process.send_signal(signal.SIGTERM)
            eventually(lambda: CLIENT.get(f"{address}/health").status_code == 503)
            assert "stopping" in error_of(ask(address), 503)
            assert begun.result().status_code == 200
        output, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert output.splitlines()[-1] == "stopped"
    assert "Traceback" not in output
    assert not list((tmp_path / "tmp").glob("vc_lightning*"))


def test_refuses_taken_port():
    with server.bind("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        listener.listen()
        with pytest.raises(InputError, match=f"port={port}: is taken"):
            server.bind("127.0.0.1", port)
    with pytest.raises(InputError, match="port=70000"):
        server.bind("127.0.0.1", 70_000)
