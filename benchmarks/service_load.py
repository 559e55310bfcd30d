"""Latency, throughput and memory of the service under load, with the shipped weights.

    python benchmarks/service_load.py [1 4 16 64] [batch_size=8 …]

Clients send examples/source.wav (6 s) and examples/target.wav (9 s). After status 429 they try
again when Retry-After allows it. A latency counts from a client's first attempt to its result.
Arguments with = are keys of the service.
"""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import httpx
import numpy as np

from vc_lightning.common import resources

EXAMPLES = resources.ROOT / "examples"
LEVELS = (1, 4, 16, 64)
MIN_REQUESTS = 8  # of a level, or one a client


class Client(threading.Thread):
    """Sends requests one after the other.

    Args:
        address: Of the service.
        number: How many requests.
    """

    def __init__(self, address: str, number: int):
        super().__init__()
        self.address = address
        self.number = number
        self.seconds: list[float] = []
        self.n_refused = 0
        self.others: list[str] = []

    def run(self) -> None:
        """Send the requests."""
        names = {"source": "source.wav", "target": "target.wav"}
        files = {field: (name, (EXAMPLES / name).read_bytes()) for field, name in names.items()}
        with httpx.Client(timeout=900, verify=False) as client:
            for _ in range(self.number):
                began = time.perf_counter()
                while True:
                    answer = client.post(f"{self.address}/convert", files=files)
                    if answer.status_code != 429:
                        break
                    self.n_refused += 1
                    time.sleep(float(answer.headers["retry-after"]))
                if answer.status_code == 200 and answer.content[:4] == b"RIFF":
                    self.seconds.append(time.perf_counter() - began)
                else:
                    self.others.append(f"{answer.status_code} {answer.text[:80]}")


def peak_megabytes(process: int) -> float:
    """Return the peak memory of a process in MB (Linux only)."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024


def measure(address: str, process: int, n_clients: int) -> str:
    """Format a line of the table."""
    clients = [Client(address, max(1, MIN_REQUESTS // n_clients)) for _ in range(n_clients)]
    began = time.perf_counter()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    elapsed = time.perf_counter() - began
    seconds = [value for client in clients for value in client.seconds]
    others = [text for client in clients for text in client.others]
    wanted = sum(client.number for client in clients)
    p50, p95 = np.percentile(seconds, [50, 95])
    refused = sum(client.n_refused for client in clients)
    lost = wanted - len(seconds)
    return (
        f"{n_clients:7} {wanted:8} {p50:6.2f} {p95:6.2f} {len(seconds) / elapsed:12.2f} "
        f"{refused:6} {lost:5} {peak_megabytes(process):9.0f} {' '.join(others[:1])}"
    )


def address_in(lines: Iterable[str]) -> str:
    """Read what the service prints until it tells its address."""
    for line in lines:
        found = re.search(r"listening at (\S+)", line)
        if found:
            return found[1]
    raise SystemExit("the service does not start")


def main() -> None:
    """Start the service and print the table."""
    levels = [int(word) for word in sys.argv[1:] if "=" not in word] or LEVELS
    keys = [word for word in sys.argv[1:] if "=" in word]
    process = subprocess.Popen(
        [sys.executable, resources.ROOT / "serve.py", "port=0", *keys],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = address_in(process.stdout or ())
        warm_up = Client(address, 1)
        warm_up.run()
        print(f"at the start: {peak_megabytes(process.pid):.0f} MB, {warm_up.seconds} s")
        print("clients requests  p50 s  p95 s  conversions/s    429  lost  peak MB")
        for n_clients in levels:
            print(measure(address, process.pid, n_clients), flush=True)
    finally:
        process.terminate()
        print(f"exit code {process.wait()}")


if __name__ == "__main__":
    main()
