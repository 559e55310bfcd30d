"""Many clients of one server at once: uploads, conversions, live speech, slow readers, leavers.

    python benchmarks/service_crowd.py [--clients 64] [--seconds 120] [max_requests=16 …]

Arguments with = are keys of the service, which runs in a process of its own on this computer
(extras demo and test). A client may be refused only by the status 429 or 503, or the close code
1001, 1008 or 1013, each with one sentence. The server gets SIGTERM while all clients are busy.

Exit code 1 if: a client met anything else; the server did not end within 10 s, or not with code 0;
in two minutes or more, its memory grew by more than a tenth from the second to the last quarter; a
file of a client was left; its log names a file or a folder, or has a traceback. Printed are p50 and
p99 of every kind of request by its outcome (served, or the code of the refusal), the memory at the
start, after a sixth, in the middle and at the end, and the load of the machine.
"""

import argparse
import collections
import contextlib
import json
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import soundfile
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from vc_lightning.common import resources

EXAMPLES = resources.ROOT / "examples"
STOP_SECONDS = 10.0
GROWTH = 1.1
WARM_SECONDS = 120.0  # a shorter run tells nothing about the memory
PIECE_SECONDS = 0.1  # of live speech
REFUSALS = (429, 503)
SENTENCES = "being served already|stopping|not converted within"  # of the page for these two
CLOSES = (1001, 1008, 1013)
TIMEOUT = 330


class Crowd:
    """What all clients share.

    Args:
        address: Of the server.
    """

    def __init__(self, address: str):
        self.address = address
        self.wavs = {name: (EXAMPLES / f"{name}.wav").read_bytes() for name in ("source", "target")}
        self.speech = soundfile.read(EXAMPLES / "source.wav", dtype="float32")[0]
        self.is_over = threading.Event()  # the server was told to stop
        self.seconds: dict[str, list[float]] = collections.defaultdict(list)
        self.errors: list[str] = []

    def work(self, number: int) -> None:
        """Be one client until the server stops.

        Args:
            number: Number of the client, which decides what it does.
        """
        roles = (self.convert, self.speak, self.use_page, self.read_slowly, self.leave)
        role = roles[number % len(roles)]
        rng = random.Random(number)
        time.sleep(rng.random() * 3)
        while not self.is_over.is_set():
            began = time.monotonic()
            try:
                outcome = role(rng)
            except (httpx.TransportError, ConnectionClosed, OSError, TimeoutError) as error:
                if self.is_over.is_set():
                    return  # the server has ended
                close = getattr(error, "rcvd", None)  # the server's last word to a client that sent
                if close is not None and close.code in CLOSES and close.reason:
                    outcome = f"{close.code}"
                else:
                    outcome = f"{type(error).__name__} {error}"[:200]
                    self.errors.append(f"{role.__name__}: {outcome}")
            self.seconds[f"{role.__name__}: {outcome[:60]}"].append(time.monotonic() - began)
            if outcome != "served":
                self.is_over.wait(2 * rng.random())

    def convert(self, rng: random.Random) -> str:
        """Convert over HTTP."""
        with client() as http:
            return self.judged(http.post(f"{self.address}/convert", files=self.form()), b"RIFF")

    def speak(self, rng: random.Random) -> str:
        """Speak for some seconds in real time; the answers are read meanwhile."""
        hello = {"rate": 16_000, "format": "float32", "wait": rng.random() < 0.5, "skip": True}
        n = int(16_000 * PIECE_SECONDS)
        with self.live() as socket:
            socket.send(json.dumps(hello))
            while "wait" in (answer := json.loads(socket.recv(TIMEOUT))):
                pass
            if "error" in answer:
                return self.closed(socket, answer)
            received: list[str | bytes] = []
            listener = threading.Thread(target=lambda: received.extend(iterated(socket)))
            listener.start()
            for start in range(0, rng.randrange(len(self.speech)), n):
                socket.send(self.speech[start : start + n].tobytes())
                time.sleep(PIECE_SECONDS)
            socket.send('{"end": true}')
            listener.join(TIMEOUT)
            texts = [json.loads(text) for text in received if isinstance(text, str)]
            refusals = [text for text in texts if "error" in text]
            return self.closed(socket, refusals[0]) if refusals else "served"

    def use_page(self, rng: random.Random) -> str:
        """Upload on the page, convert there and close it."""
        session = f"s{rng.getrandbits(40):x}"
        api = f"{self.address}/gradio_api"
        with client() as http, http.stream("GET", f"{api}/heartbeat/{session}"):
            paths = []
            for name, wav in self.wavs.items():
                answer = http.post(f"{api}/upload", files={"files": (f"{name}.wav", wav)})
                if answer.status_code != 200:
                    return self.judged(answer, b"")
                paths.append({"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}})
            data = [paths[0], "", paths[1], None, "shipped", "auto", 0, 0]
            body = {"data": data, "fn_index": self.event, "session_hash": session}
            answer = http.post(f"{api}/queue/join", json=body)
            if answer.status_code != 200:
                return self.judged(answer, b"")
            with http.stream("GET", f"{api}/queue/data?session_hash={session}") as stream:
                text = "".join(stream.iter_text())
        if "Similarity to the voice" in text:
            return "served"
        refusal = re.search(r'role=\\"alert\\">([^<]*)<', text)
        if refusal and re.search(SENTENCES, refusal[1], re.IGNORECASE):
            return "refused with a sentence"
        self.errors.append(f"use_page: {text[-300:]}")
        return "unexpected"

    def read_slowly(self, rng: random.Random) -> str:
        """Take a result in small bites, or send live speech and read nothing."""
        if rng.random() < 0.5:
            with (
                client() as http,
                http.stream("POST", f"{self.address}/convert", files=self.form()) as answer,
            ):
                if answer.status_code != 200:
                    answer.read()
                    return self.judged(answer, b"")
                for _ in answer.iter_bytes(20_000):
                    time.sleep(0.5)
            return "served"
        with self.live(max_queue=1) as socket, contextlib.suppress(ConnectionClosed, TimeoutError):
            socket.send(json.dumps({"rate": 96_000, "format": "float32"}))
            end = time.monotonic() + 20
            while time.monotonic() < end and not self.is_over.is_set():
                socket.send(bytes(400_000))
        return "cut off or left"

    def leave(self, rng: random.Random) -> str:
        """Break off an upload, a conversion or a stream."""
        kind = rng.randrange(3)
        if kind == 0:
            host, port = self.address.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port)), timeout=30) as raw:
                raw.sendall(
                    b"POST /convert HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n"
                    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
                )
                time.sleep(rng.random())
        elif kind == 1:
            with client(rng.uniform(0.1, 3)) as http, contextlib.suppress(httpx.TimeoutException):
                http.post(f"{self.address}/convert", files=self.form())
        else:
            with self.live() as live:
                live.send(json.dumps({"rate": 16_000, "format": "int16", "wait": True}))
                with contextlib.suppress(ConnectionClosed):
                    live.send(bytes(32_000))
                live.socket.shutdown(socket.SHUT_RDWR)
        return "left"

    def judged(self, answer: httpx.Response, begin: bytes) -> str:
        """Judge an answer over HTTP: served, or refused with a sentence."""
        if answer.status_code == 200 and answer.content.startswith(begin):
            return "served"
        with contextlib.suppress(ValueError):
            sentence = answer.json().get("error", "")
            if answer.status_code in REFUSALS and sentence:
                return f"{answer.status_code}"
        self.errors.append(f"{answer.status_code} {answer.text[:200]}")
        return f"unexpected {answer.status_code}"

    def closed(self, live: ClientConnection, answer: dict) -> str:
        """Judge a refusal of live speech: a sentence, then a close code."""
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            live.recv(TIMEOUT)
        if live.close_code in CLOSES and answer.get("error"):
            return f"{live.close_code}"
        self.errors.append(f"closed {live.close_code} {answer}")
        return f"unexpected {live.close_code}"

    def form(self) -> list[tuple[str, tuple[str, bytes]]]:
        """Make the files of a request."""
        return [(name, (f"{name}.wav", wav)) for name, wav in self.wavs.items()]

    @contextlib.contextmanager
    def live(self, max_queue: int = 16) -> Iterator[ClientConnection]:
        """Connect to /live."""
        address = self.address.replace("http", "ws")
        with connect(
            f"{address}/live",
            compression=None,
            open_timeout=60,
            close_timeout=1,
            max_queue=max_queue,
        ) as opened:
            yield opened

    @property
    def event(self) -> int:
        """The number of the page's event that converts."""
        if not hasattr(self, "_event"):
            with client() as http:
                config = http.get(f"{self.address}/config").json()
            self._event = next(
                entry["id"]
                for entry in config["dependencies"]
                if entry["api_name"] == "press_convert"
            )
        return self._event


def iterated(live: ClientConnection) -> Iterator[str | bytes]:
    """Yield messages until the connection ends."""
    with contextlib.suppress(ConnectionClosed):
        yield from live


def client(seconds: float = TIMEOUT) -> httpx.Client:
    """Make a client without certificates, which take long to read."""
    return httpx.Client(timeout=seconds, verify=False)


def megabytes(process: int) -> float:
    """Return the memory of a process in MB that is not of files (Linux only)."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


def run(crowd: Crowd, process: subprocess.Popen, n_clients: int, seconds: float) -> list[float]:
    """Let all clients work; return the server's memory, measured every second."""
    threads = [
        threading.Thread(target=crowd.work, args=(number,), daemon=True)
        for number in range(n_clients)
    ]
    for thread in threads:
        thread.start()
    memory = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        memory.append(megabytes(process.pid))
        time.sleep(1)
    return memory


def stopped(crowd: Crowd, process: subprocess.Popen) -> float:
    """Stop the server under load; return how long that takes in seconds."""
    began = time.monotonic()
    crowd.is_over.set()
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(3 * STOP_SECONDS)
    return time.monotonic() - began


def check(is_good: bool, text: str) -> bool:
    """Print a line of the verdict."""
    print(f"{'good' if is_good else 'BAD '}  {text}")
    return is_good


def main() -> None:
    """Start the server, run the crowd, stop it and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("keys", nargs="*")
    arguments = parser.parse_args()
    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # of connections cut on purpose
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        own = Path(folder, "tmp")
        own.mkdir()
        command = [sys.executable, str(resources.ROOT / "serve.py"), "port=0", "page=true"]
        command += [f"live.target={EXAMPLES / 'target.wav'}", *arguments.keys]
        with log.open("w") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=file, env=os.environ | {"TMPDIR": str(own)}
            )
        try:
            while not (found := re.search(r"listening at (\S+)", log.read_text())):
                if process.poll() is not None:
                    sys.exit(f"the service does not start: {log.read_text()}")
                time.sleep(0.2)
            crowd = Crowd(found[1])
            crowd.judged(client().post(f"{found[1]}/convert", files=crowd.form()), b"RIFF")
            memory = run(crowd, process, arguments.clients, arguments.seconds)
            seconds = stopped(crowd, process)
        finally:
            process.kill()
            process.wait()
        for kind, times in sorted(crowd.seconds.items()):
            p50, p99 = np.percentile(times, [50, 99])
            print(f"{len(times):6}  p50 {p50:6.1f} s  p99 {p99:6.1f} s  {kind}")
        sixth, middle = memory[len(memory) // 6], memory[len(memory) // 2]
        print(
            f"memory: {memory[0]:.0f} MB at the start, {sixth:.0f} after a sixth, "
            f"{middle:.0f} in the middle, "
            f"{memory[-1]:.0f} at the end; load of the machine {os.getloadavg()[2]:.1f}"
        )
        quarter = max(1, len(memory) // 4)
        early, late = max(memory[quarter : 2 * quarter]), max(memory[-quarter:])
        text = log.read_text()
        names = re.findall(r"\S*(?:\.wav|/tmp/|Traceback)\S*", text.replace(found[1], ""))
        left = [path.name for path in own.rglob("*") if path.is_file()]
        verdicts = [
            check(not crowd.errors, f"unexpected answers: {sorted(set(crowd.errors))[:3]}"),
            check(
                late < GROWTH * early or arguments.seconds < WARM_SECONDS,
                f"memory {early:.0f} MB early, {late:.0f} MB late",
            ),
            check(seconds <= STOP_SECONDS, f"stopped within {seconds:.1f} s under load"),
            check(process.returncode == 0, f"exit code {process.returncode}"),
            check(not left, f"files left: {left[:3]}"),
            check(not names, f"names in the log: {names[:3]}"),
        ]
        if not all(verdicts):
            print("the end of the log:", *text.splitlines()[-5:], sep="\n")
    sys.exit(not all(verdicts))


if __name__ == "__main__":
    main()
