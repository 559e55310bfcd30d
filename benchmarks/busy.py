"""Measure conversions on a quiet machine and beside busy programs, one per core, side by side.

    python benchmarks/busy.py [--rounds 7] [--threads 1 2]

Converts the README's example, target known, with the threads that the converter chooses, and with
fixed numbers of them (`OMP_NUM_THREADS`); and as the service answers a request, which also hears
the target and measures similarities. All of them take turns, quiet and busy, so that they meet the
same load of other programs, and another one is first in each round: the first one after a rest is
slower. The busy programs are started and ended here; each has a session of its own, like a program
in another window.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from vc_lightning.common import resources
from vc_lightning.common.threads import SECONDS

CONVERT = """
import pathlib, vc_lightning
folder = pathlib.Path("examples")
converter = vc_lightning.VoiceConverter.from_pretrained()
target = converter.voice(folder / "target.wav")
def convert():
    return converter.convert_to(folder / "source.wav", target)
"""
SERVE = """
import asyncio, pathlib, hydra
from vc_lightning.commands import serve
with hydra.initialize_config_dir(str(serve.resources.CONF), version_base="1.3"):
    cfg = hydra.compose("serve")
cfg.voices.dir = "voices"
converters = serve.build_converters(cfg)
converter = converters.get(converters.default)
folder = pathlib.Path("examples")
async def stays(_):
    return False
async def answer():
    from vc_lightning.service.engine import conversions
    from vc_lightning.service.limits import ServiceLimits
    limits = serve.limits_in(cfg, ServiceLimits)
    service = conversions.ConversionService(converters, pathlib.Path("voices"), limits)
    prepared = await service.prepare(
        folder / "source.wav", (folder / "target.wav",), converters.default
    )
    return (await service.convert(prepared, stays)).wav
def convert():
    return asyncio.run(answer())
"""
TIME = """
import sys, time, torch
print(len(convert()) / converter.sample_rate, flush=True)
for _ in sys.stdin:
    converter.networks.threads.choose()  # begins to measure what others do
    time.sleep({seconds})
    began = time.perf_counter()
    convert()
    print(time.perf_counter() - began, torch.get_num_threads(), flush=True)
"""
ENOUGH = 10.0  # summed seconds per second of sound, after which a variant is left out
SPIN = """
import os, sys
while os.getppid() == int(sys.argv[1]):  # ends with the benchmark, even if that is killed
    for _ in range(1_000_000):
        pass
"""


class Worker:
    """A process with a converter, which converts the example when it is asked to.

    Args:
        program: Defines `converter` and `convert`.
        n_threads: Its `OMP_NUM_THREADS`; None: the converter chooses.
    """

    def __init__(self, program: str, n_threads: int | None = None):
        environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
        if n_threads is not None:
            environment["OMP_NUM_THREADS"] = str(n_threads)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program + TIME.format(seconds=SECONDS + 0.1)],
            cwd=resources.ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.seconds_of_sound = float(self._answer()[0])

    def convert(self) -> tuple[float, int]:
        """Convert the example -> seconds per second of sound, and the number of threads."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        seconds, n_threads = self._answer()
        return float(seconds) / self.seconds_of_sound, int(n_threads)

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()

    def _answer(self) -> list[str]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit("a conversion failed; the message above says why")
        return line.split()


@contextmanager
def busy_programs(n: int) -> Iterator[None]:
    """Keep n cores busy."""
    spin = [sys.executable, "-c", SPIN, str(os.getpid())]
    programs = [subprocess.Popen(spin, start_new_session=True) for _ in range(n)]
    try:
        time.sleep(0.3)  # until they have started
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def others() -> float:
    """Measure for a second how many cores other programs use."""
    return psutil.cpu_percent(interval=1) / 100 * (psutil.cpu_count() or 1)


def main() -> None:
    """Let all variants convert in turns, and print a row for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2], help="fixed numbers")
    options = parser.parse_args()
    n_cores = psutil.cpu_count() or 1
    workers = {"chosen": Worker(CONVERT), "the service": Worker(SERVE)}
    workers |= {f"always {n}": Worker(CONVERT, n) for n in options.threads}
    rows: dict[tuple[str, bool], list[tuple[float, int]]] = {
        (name, busy): [] for name in workers for busy in (False, True)
    }
    load = []
    try:
        names = list(workers)
        for _ in range(options.rounds):
            load.append(others())
            for busy in (False, True):
                with busy_programs(n_cores if busy else 0):
                    for name in names:
                        if sum(seconds for seconds, _ in rows[name, busy]) < ENOUGH:
                            rows[name, busy].append(workers[name].convert())
            names = names[1:] + names[:1]
    except KeyboardInterrupt:
        pass  # print what there is
    finally:
        for worker in workers.values():
            worker.close()
    print(
        f"{n_cores} cores, of which other programs used {statistics.median(load):.1f} before the "
        f"rounds (median; least {min(load):.1f}, most {max(load):.1f})\n"
    )
    print("| threads | quiet | beside busy programs | | quiet, least | busy, least |")
    print("|---|---|---|---|---|---|")
    for name in workers:
        if rows[name, False] and rows[name, True]:
            print_row(name, rows[name, False], rows[name, True])


def print_row(name: str, quiet: list[tuple[float, int]], busy: list[tuple[float, int]]) -> None:
    """Print medians and least values of one variant, and the numbers of threads it chose."""
    (alone, n_alone), (beside, n_beside) = zip(*quiet, strict=True), zip(*busy, strict=True)
    if name == "chosen":
        name += f": {numbers(n_alone)} quiet, {numbers(n_beside)} busy"
    ratio = statistics.median(beside) / statistics.median(alone)
    print(
        f"| {name} | {statistics.median(alone):.3f} | {statistics.median(beside):.3f} | "
        f"{ratio:.1f} × | {min(alone):.3f} | {min(beside):.3f} |"
    )


def numbers(chosen: tuple[int, ...]) -> str:
    """List the different numbers in ascending order."""
    return " or ".join(map(str, sorted(set(chosen))))


if __name__ == "__main__":
    main()
