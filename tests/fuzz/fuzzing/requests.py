"""Requests that no program of good will sends, to one server: HTTP, forms, the page, WebSockets.

The server runs in a process of its own with a tiny network. Every request must be served or refused
with a sentence in time; the server must log no bug, leave no file, convert afterwards and stop.
"""

import contextlib
import functools
import json
import os
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.sync.client import ClientConnection, connect

from fuzzing import hostile, media
from fuzzing.bench import EXAMPLES, Bench
from fuzzing.damage import damaged
from fuzzing.trials import ADDRESS_SPACE, TrialResult
from vc_lightning.audio.files import io as audio
from vc_lightning.common import resources

KEYS = ("rate", "format", "voice", "speaker", "block", "token", "ticket", "wait", "skip")
FIELDS = ("source", "target", "voice", "format", "checkpoint", "vocoder", "guidance", "seed")
LIES = (None, True, -1, 0, 0.5, 1e400, 10**30, "", "x" * 5_000, "../../etc/passwd", [], [1], {})
TEXTS = ("", "nan", "1e400", "-1", "\0", "ж" * 2_000, "../../../etc/passwd", "wav\r\nX: y", "${x}")
NAMES = (
    "a.wav",
    "../../a.wav",
    "a.exe",
    "",
    "a" * 2_000 + ".wav",
    "ж.mp3",
    'a".wav',
    "a.wav\0.zip",
)
PATHS = ("/", "/convert", "/live", "/voices", "/metrics", "/login", "/%00", "/../../etc/passwd")
PAGE = "/gradio_api"
# The log's line about values that Gradio refuses before any function of ours sees them.
REFUSED_BY_GRADIO = re.compile(
    r"an event of the page failed: \w*Error "
    r"\((?:(?:route_utils|queueing|blocks|main|to_thread|_asyncio|dropdown)\.py:\d+(?: > )?)+\)\n"
)
ALLOWED = {200, 303, 400, 401, 403, 404, 405, 406, 408, 413, 415, 422, 426, 429, 431, 503}
CLOSES = {None, 1000, 1002, 1003, 1006, 1007, 1008, 1009, 1013}
GOOD_HELLO = {"rate": 16_000, "format": "float32"}

Request = Callable[[str], str]  # takes the server's address, gives what is wrong with its answer


class Requests:
    """Makes and judges the requests.

    Args:
        bench: Good recordings.
        seconds: Time limit of an answer.
    """

    def __init__(self, bench: Bench, seconds: float):
        self._seconds = seconds
        self._client = httpx.Client(verify=False, timeout=seconds)
        self._good = bench.source.read_bytes()
        speech, rate = audio.load(bench.source)
        self._media = [*media.files(speech, rate).values(), *media.hostile_files().values()]
        self._files = [content for name, content in hostile.files() if name != "a bomb"]

    def listed(self, seed: int) -> Iterator[tuple[str, Request]]:
        """Yield endless requests, each kind in its turn."""
        kinds = (self.form, self.upload, self.http, self.page, self.hello, self.sound, self.frames)
        for index in range(10**9):
            kind = kinds[index % len(kinds)]
            yield (
                f"{kind.__name__} {index}",
                functools.partial(kind, random.Random(f"{seed} {index}")),
            )

    def form(self, rng: random.Random, address: str) -> str:
        """Fields that are not wanted, twice, or of the wrong kind."""
        files = [("source", ("a.wav", self._good)), ("target", ("b.wav", self._good))]
        rng.shuffle(files)
        data = {rng.choice(FIELDS): rng.choice(TEXTS) for _ in range(rng.randrange(4))}
        more = [(rng.choice(FIELDS), (rng.choice(NAMES), b"abc")) for _ in range(rng.randrange(3))]
        if rng.random() < 0.1:
            more *= 500
        headers = {"Accept": rng.choice(("*/*", "audio/flac;q=x", "text/html", "," * 1_000))}
        return self._judged(
            "POST",
            address + "/convert",
            files=files[rng.randrange(3) :] + more,
            data=data,
            headers=headers,
        )

    def upload(self, rng: random.Random, address: str) -> str:
        """Uploads that are not recordings."""
        content = rng.choice(
            (
                rng.choice(self._media),
                damaged(rng.choice(self._media), rng),
                damaged(self._good, rng),
                rng.choice(self._files)(),
                rng.randbytes(rng.randrange(3_000)),
            )
        )
        files = [("source", ("a.wav", self._good)), ("target", ("b.wav", self._good))]
        place = rng.randrange(2)
        files[place] = (files[place][0], (rng.choice(NAMES), content))
        return self._judged("POST", address + "/convert", files=files)

    def http(self, rng: random.Random, address: str) -> str:
        """Bytes that are hardly HTTP."""
        head = [
            f"{rng.choice(('GET', 'POST', 'PUT', '', 'A B', chr(0)))} {rng.choice(PATHS)} HTTP/1.1"
        ]
        values = (
            "localhost",
            "-1",
            "9" * 30,
            "chunked",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=x",
            "websocket",
            "x" * 70_000,
            "http://[::1",
        )
        names = ("Host", "Content-Length", "Transfer-Encoding", "Content-Type", "Upgrade", "Cookie")
        head += [f"{rng.choice(names)}: {rng.choice(values)}" for _ in range(rng.randrange(6))]
        bodies = (b"", b"--x\r\n", b"ffffffffffffffff\r\nabc", rng.randbytes(2_000), b"0\r\n\r\n")
        return self._raw(address, "\r\n".join([*head, "", ""]).encode() + rng.choice(bodies))

    def page(self, rng: random.Random, address: str) -> str:
        """What the page's own script would never send."""
        kind = rng.randrange(5)
        if kind == 0:
            path = rng.choice(
                ("/etc/passwd", "../../etc/passwd", "%2e%2e/etc/passwd", "\0", "C:\\a")
            )
            return self._judged("GET", f"{address}{PAGE}/file={path.replace(chr(0), '%00')}")
        if kind == 1:
            body = rng.choice((b"key=", b"key=" + b"x" * 9_000, b"\xff\xfe", b"&&&=%zz"))
            return self._judged("POST", f"{address}/login", content=body)
        if kind == 2:
            files = {"files": (rng.choice(NAMES), rng.choice(self._files)())}
            return self._judged("POST", f"{address}{PAGE}/upload", files=files)
        if kind == 3:
            body = rng.choice((b"", b"[" * 100_000, b"{}", b'{"data": null}', b"\xff"))
            headers = {"Content-Type": "application/json"}
            return self._judged(
                "POST", f"{address}{PAGE}/queue/join", content=body, headers=headers
            )
        data = [rng.choice((*LIES[:5], *LIES[7:])) for _ in range(rng.randrange(9))]
        body = {"data": data, "fn_index": rng.randrange(-2, 40), "session_hash": "s"}
        return self._judged("POST", f"{address}{PAGE}/queue/join", json=body)

    def hello(self, rng: random.Random, address: str) -> str:
        """First messages over a WebSocket that break the protocol."""
        values = {rng.choice((*KEYS, "x")): rng.choice(LIES) for _ in range(rng.randrange(1, 4))}
        first = rng.choice(
            (
                json.dumps(GOOD_HELLO | values),
                json.dumps(values),
                "",
                "[" * 50_000,
                "{",
                "null",
                rng.randbytes(50),
                "ж" * 100,
            )
        )
        return self._live(address, [first])

    def sound(self, rng: random.Random, address: str) -> str:
        """Blocks that are not sound, after a good first message."""
        kinds = (
            np.full(4_000, np.nan, np.float32).tobytes(),
            np.full(4_000, np.inf, np.float32).tobytes(),
            np.full(4_000, 3e38, np.float32).tobytes(),
            rng.randbytes(4_000),
            rng.randbytes(3_999),
            b"",
            bytes(2_000_000),
            '{"end": false}',
            "x" * 1_000,
        )
        rate = rng.choice((8_000, 16_000, 44_100, 192_000))
        messages = [rng.choice(kinds) for _ in range(rng.randrange(1, 6))]
        return self._live(address, [json.dumps(GOOD_HELLO | {"rate": rate}), *messages])

    def frames(self, rng: random.Random, address: str) -> str:
        """Frames that RFC 6455 forbids."""
        masked = [
            bytes([0x82, 0xFF]) + struct.pack(">Q", 2**63 - 1) + b"abcd",
            bytes([0x8F, 0x80]) + b"abcd",
            bytes([0xF1, 0x81]) + b"abcdx",
            bytes([0x01, 0x81]) + b"abcdx" + bytes([0x01, 0x81]) + b"abcdx",
            bytes([0x89, 0xFE]) + struct.pack(">H", 1_000) + b"abcd" + bytes(1_000),
            bytes([0x81, 0x82]) + b"\0\0\0\0\xff\xfe",
            bytes([0x81, 0x01]) + b"x",
            rng.randbytes(200),
        ]
        with self._connected(address) as client:
            with contextlib.suppress(OSError):
                client.socket.sendall(rng.choice(masked))
                client.socket.shutdown(socket.SHUT_WR)
            return self._ending(client)

    def good(self, address: str) -> str:
        """Make an ordinary conversion."""
        files = [("source", ("a.wav", self._good)), ("target", ("b.wav", self._good))]
        answer = self._client.post(f"{address}/convert", files=files)
        return "" if answer.content[:4] == b"RIFF" else answer.text[:200]

    def _judged(self, method: str, address: str, **options: object) -> str:
        answer = self._client.request(method, address, **options)
        text = "" if answer.content[:4] in (b"RIFF", b"fLaC") else answer.text
        if answer.status_code not in ALLOWED:
            return f"status {answer.status_code}: {text[:200]}"
        if "Traceback" in text or ("/tmp/" in text.replace(f"{PAGE}/", "") and PAGE not in address):
            return f"an answer shows too much: {text[:200]}"
        if answer.status_code >= 400 and address.endswith("/convert"):
            error = answer.json().get("error", "")
            return "" if error and "\n" not in error else f"no sentence: {text[:200]}"
        return ""

    def _raw(self, address: str, content: bytes) -> str:
        host, port = address.removeprefix("http://").split(":")
        answer = b""
        with (
            contextlib.suppress(ConnectionError),
            socket.create_connection((host, int(port)), timeout=self._seconds) as client,
        ):
            client.sendall(content)
            with contextlib.suppress(OSError):  # the server has closed the connection
                client.shutdown(socket.SHUT_WR)
            while piece := client.recv(100_000):
                answer += piece
        status = int(answer[9:12]) if answer[:5] == b"HTTP/" else 0
        return "" if status in {0, *ALLOWED} else f"status {status}: {answer[:200]!r}"

    def _live(self, address: str, messages: list[str | bytes]) -> str:
        with self._connected(address) as client:
            with contextlib.suppress(ConnectionClosed):
                for message in messages:
                    client.send(message)
                client.send('{"end": true}')
            return self._ending(client)

    @contextlib.contextmanager
    def _connected(self, address: str) -> Iterator[ClientConnection]:
        with connect(
            f"{address.replace('http', 'ws')}/live",
            compression=None,
            open_timeout=self._seconds,
            close_timeout=1,
            max_size=None,
        ) as client:
            yield client

    def _ending(self, client: ClientConnection) -> str:
        """Read to the end of a connection; what is wrong with it."""
        texts = []
        try:
            while True:
                message = client.recv(timeout=self._seconds)
                if isinstance(message, bytes):
                    if not np.isfinite(np.frombuffer(message, np.float32)).all():
                        return "the sound is not finite"
                else:
                    texts.append(json.loads(message))
        except ConnectionClosed:
            pass
        if client.close_code not in CLOSES:
            return f"close code {client.close_code}"
        refusals = [text["error"] for text in texts if "error" in text]
        return "a traceback" if any("Traceback" in text for text in refusals) else ""


def run(
    bench: Bench, folder: Path, n_cases: int, seed: int, memory: int, seconds: float, minutes: float
) -> dict[str, TrialResult]:
    """Send requests to a server; report every failure on stdout as it happens.

    Args:
        bench: Recordings and networks.
        folder: An empty folder for the server.
        n_cases: Number of requests.
        seed: Seed of the requests.
        memory: Most bytes that the server may take beyond those after its first conversion.
        seconds: Time limit of an answer.
        minutes: Time after which no request begins.
    """
    requests = Requests(bench, seconds)
    results: dict[str, TrialResult] = {}
    with _serving(bench, folder) as (process, address, log):
        requests.good(address)
        before = _peak(process.pid)
        began = time.perf_counter()
        for number, (name, send) in enumerate(requests.listed(seed)):
            if number == n_cases or time.perf_counter() - began > 60 * minutes:
                break
            start = time.perf_counter()
            wrong = _outcome(send, address)
            peak = _peak(process.pid) - before
            if not wrong and peak > memory:
                wrong = f"the server took {peak / 2**30:.2f} GiB of memory"
            took = time.perf_counter() - start
            results[name] = TrialResult(wrong or "succeeded", "", took, peak)
            if wrong:
                print(f"FAILED {name}: {wrong}", flush=True)
        last = {"a conversion afterwards": _outcome(requests.good, address)}
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(30)
            last["exit code"] = "" if code == 0 else str(code)
        except subprocess.TimeoutExpired:
            last["exit code"] = "the server does not stop"
        text = REFUSED_BY_GRADIO.sub("", log.read_text(errors="replace"))
        bug = re.search(r"Traceback|ERROR|Error \(", text)
        last["the log"] = text[bug.start() :][:3000] if bug else ""
        left = [path.name for path in (folder / "tmp").rglob("*") if path.is_file()]
        last["files left"] = ", ".join(left[:5])
    for name, wrong in last.items():
        results[name] = TrialResult(wrong or "succeeded", "", 0.0, 0)
        if wrong:
            print(f"FAILED {name}: {wrong}", flush=True)
    return results


def _outcome(send: Request, address: str) -> str:
    """Send one request; what is wrong with what came of it."""
    try:
        return send(address)
    except (InvalidHandshake, InvalidMessage, httpx.RemoteProtocolError, httpx.WriteError):
        return ""  # the server has closed the connection
    except (httpx.InvalidURL, httpx.LocalProtocolError, UnicodeError):
        return ""  # the client does not send such a thing
    except (TimeoutError, httpx.TimeoutException):
        return "no answer in time"
    except (OSError, httpx.TransportError) as error:
        return f"{type(error).__name__}: {error}"


def _peak(process: int) -> int:
    """The most memory in bytes that a process has taken."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


@contextlib.contextmanager
def _serving(bench: Bench, folder: Path) -> Iterator[tuple[subprocess.Popen, str, Path]]:
    """Start a server; give its process, address and log."""
    (folder / "tmp").mkdir(parents=True)
    log = folder / "log"
    keys = [f"ckpt={bench.checkpoint}", "vocoder=griffin_lim", "vocoder.n_iter=1", "port=0"]
    keys += ["vocoder.path=null", f"voices.dir={folder / 'voices'}", "page=auto", "max_seconds=20"]
    keys += ["max_megabytes=1", "max_targets=2", "transfer_seconds=3", "wait_seconds=20"]
    keys += [f"live.target={EXAMPLES / 'target.wav'}", "live.max_idle_seconds=1"]
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, str(resources.ROOT / "serve.py"), *keys],
            stdout=file,
            stderr=file,
            env=os.environ | {"TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE,) * 2),
        )
    try:
        while not (found := re.search(r"listening at (\S+)", log.read_text())):
            if process.poll() is not None:
                raise SystemExit(f"the server does not start: {log.read_text()}")
            time.sleep(0.2)
        yield process, found[1], log
    finally:
        process.kill()
        process.wait()
