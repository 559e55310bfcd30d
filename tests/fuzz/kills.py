"""Whether work survives: commands that are killed, and run out of disk, rights or time.

    python tests/fuzz/kills.py [--each 10] [--seed 0] [--minutes 20] [--only train]

Each of prepare (features), train, convert (a table of pairs), learn (a voice) and serve is
disturbed `--each` times at a random moment:

kill: SIGKILL. full: no file may grow beyond a random size (RLIMIT_FSIZE), as on a full disk.
denied: the folders become read-only for the command, which runs as another user (needs root).
slow: every opening, replacing and deleting of a file takes 20 ms more, as on a network's file
system (delays within the process, no file system of its own), and then SIGKILL.

Afterwards no file under its own name may be broken or differ from that of an undisturbed run; an
ending of the command's own must be an exit code of 0, 1 or 2 without a traceback; the same command
must then finish, for train by ckpt_path=last, and its result equal the undisturbed one, bit for
bit. The server's answers with status 200 must be whole. Exit code 1: some trial failed.
"""

import argparse
import builtins
import contextlib
import encodings.utf_8_sig  # noqa: F401  another user may have no right to load it
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import scipy.signal  # noqa: F401  once, for all trials
import soundfile
import torch
from fuzzing import bench, trials
from safetensors.torch import load_file

from vc_lightning.commands import convert, prepare, serve, train, voices  # noqa: F401  likewise
from vc_lightning.service import server  # noqa: F401

NOBODY = 65534
DELAY_SECONDS = 0.02
N_STEPS = 12
N_PAIRS = 6
LIMIT_SECONDS = 120
SUFFIXES = (".wav", ".safetensors", ".ckpt", ".npz", ".npy", ".json", ".csv", ".pt")


@dataclass(frozen=True)
class Work:
    """A command whose interruption loses nothing.

    Attributes:
        name: Name of the work.
        command: Its program, such as "train".
        begin: Arguments of the first run in a folder, where it works in `here`.
        resume: Arguments of the next run in that folder.
    """

    name: str
    command: str
    begin: Callable[[Path], list[str]]
    resume: Callable[[Path], list[str]]


def works(prepared: bench.Bench) -> list[Work]:
    """List the works but the server's."""

    def train_line(folder: Path) -> list[str]:
        return prepared.train(
            run_dir="runs/a",
            hydra__run__dir="runs/a",
            data__cache_dir=folder / "here/cache",
            trainer__max_steps=N_STEPS,
            trainer__val_check_interval=4,
            checkpoint__every_n_steps=5,
            checkpoint__resume_every_n_steps=1,
        )

    def train_again(folder: Path) -> list[str]:
        there = (folder / "here/runs/a/checkpoints/last.ckpt").exists()
        return [*train_line(folder), *(["ckpt_path=last"] if there else [])]

    def features(folder: Path) -> list[str]:
        return ["verb=features", *prepared.train(data__cache_dir=folder / "here/cache")]

    def table(folder: Path) -> list[str]:
        sources = sorted(prepared.corpus.glob("*/*.wav"))[:N_PAIRS]
        lines = [f"{source}\t{prepared.target}" for source in sources]
        (folder / "input/pairs.tsv").write_text("\n".join(["source\ttarget", *lines, ""]))
        given = {"pairs": folder / "input/pairs.tsv", "output": "out", "batch_size": 1}
        return prepared.convert(source=None, target=None, **given)

    def learn(folder: Path) -> list[str]:
        given = {
            "target": prepared.target.parent,
            "voices.dir": "voices",
            "ckpt": prepared.checkpoint,
        }
        return ["learn", "Ann", *(f"{key}={value}" for key, value in given.items())]

    return [
        Work("prepare", "prepare", features, features),
        Work("train", "train", train_line, train_again),
        Work("convert", "convert", table, table),
        Work("learn", "voices", learn, learn),
    ]


def launched(
    work_command: str,
    arguments: list[str],
    folder: Path,
    trouble: Callable[[], object] = lambda: None,
) -> int:
    """Fork a command; return its process."""
    child = os.fork()
    if child == 0:
        trials.be_the_command(work_command, arguments, folder, trouble)
    return child


def ended(child: int, seconds: float = LIMIT_SECONDS) -> int | None:
    """Wait for a process; return its exit code, or None when it was too late and was killed."""
    in_time = trials.wait(child, seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # and its workers
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if in_time else None


def made(folder: Path, name: str) -> Path:
    """Make an empty folder for a command, which another user may use."""
    place = folder / name
    for part in ("input", "here", "tmp"):
        (place / part).mkdir(parents=True)
    return place


def delay_files() -> None:
    """Make this process's files slow."""

    def slowly(function: Callable) -> Callable:
        def slow(*arguments: object, **options: object) -> object:
            time.sleep(DELAY_SECONDS)
            return function(*arguments, **options)

        return slow

    builtins.open = slowly(builtins.open)
    for name in ("open", "replace", "rename", "unlink", "mkdir"):
        setattr(os, name, slowly(getattr(os, name)))


def allow(folder: Path, mode: int) -> None:
    """Change the rights of all folders in a folder."""
    for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        with contextlib.suppress(FileNotFoundError):
            path.chmod(mode)


def give_away(folder: Path) -> None:
    """Give a folder to another user."""
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)


def content(path: Path) -> object:
    """Read a file as what its suffix says.

    Raises:
        Exception: It is broken.
    """
    if path.suffix == ".wav":
        return soundfile.read(path)[0]
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix in (".ckpt", ".pt"):
        return torch.load(path, weights_only=True)
    if path.suffix == ".npz":
        with np.load(path) as file:
            return dict(file)
    if path.suffix == ".npy":
        return np.load(path)
    return path.read_text(encoding="utf-8")


def differences(one: object, other: object, name: str = "") -> list[str]:
    """List what differs in two contents; settings, paths and times may."""
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            return [f"{name}: {sorted(map(str, one.keys() ^ other.keys()))[:3]}"]
        parts = [
            differences(one[key], other[key], f"{name}.{key}")
            for key in one
            if key not in ("config", "callbacks", "loops", "hparams_name")
        ]
        return [text for part in parts for text in part]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        parts = [differences(*pair, f"{name}[]") for pair in zip(one, other, strict=True)]
        return [text for part in parts for text in part]
    if isinstance(one, torch.Tensor | np.ndarray):
        same = np.array_equal(np.asarray(one), np.asarray(other), equal_nan=True)
        return [] if same else [name]
    return [] if one == other else [name]


def results(folder: Path) -> dict[str, Path]:
    """Find a command's files; hidden ones are temporary, logs and settings have times in them."""
    found = {}
    for path in sorted((folder / "here").rglob("*")):
        name = str(path.relative_to(folder / "here"))
        if path.suffix in SUFFIXES and path.is_file() and not path.name.startswith("."):
            found[name] = path
    return found


def compared(folder: Path, whole: dict[str, Path], complete: bool) -> str:
    """Compare a folder's files with an undisturbed run's; what is wrong with them, or ""."""
    found = results(folder)
    for name, path in found.items():
        try:
            one = content(path)
        except Exception as error:  # whatever a reader makes of half a file
            return f"{name} is broken ({type(error).__name__})"
        if name not in whole:
            if complete:
                return f"{name} is more than an undisturbed run leaves"
            continue
        if path.suffix in (".csv", ".json") or (path.name == "last.ckpt" and not complete):
            continue  # they grow, and have times in them
        if differing := differences(content(whole[name]), one):
            return f"{name} differs in {differing[:3]}"
    missing = [name for name in whole if name not in found]
    return f"{missing[:3]} are missing" if complete and missing else ""


def disturbed(
    work: Work, how: str, seconds: float, folder: Path, whole: dict[str, Path], rng: random.Random
) -> str:
    """Disturb a work, let it finish; what was wrong, or ""."""
    moment = rng.uniform(0.05, 1.0) * seconds
    size = int(2 ** rng.uniform(10, 18))

    def trouble() -> None:
        if how == "full":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        elif how == "slow":
            delay_files()
        elif how == "denied":
            os.environ["HOME"] = str(folder / "tmp")
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)

    arguments = work.begin(folder)
    if how == "denied":
        give_away(folder)
    child = launched(work.command, arguments, folder, trouble)
    if how in ("kill", "slow"):
        trials.wait(child, moment * (1.5 if how == "slow" else 1))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    elif how == "denied":
        trials.wait(child, moment)
        allow(folder / "here", 0o555)
    code = ended(child)
    if how == "denied":
        allow(folder / "here", 0o755)
    error = (folder / "err").read_text(errors="replace")
    if code is None:
        return "it did not end"
    if how in ("full", "denied") and ("Traceback" in error or code not in (0, 1, 2)):
        return f"exit code {code}: {error.strip().splitlines()[-1:]}"
    if wrong := compared(folder, whole, complete=False):
        return wrong
    code = ended(launched(work.command, work.resume(folder), folder))
    if code != 0:
        error = (folder / "err").read_text(errors="replace")
        return f"the next run ends with {code}: {error.strip().splitlines()[-1:]}"
    return compared(folder, whole, complete=True)


def served(
    prepared: bench.Bench, how: str, seconds: float, folder: Path, rng: random.Random
) -> str:
    """Disturb a server under requests, start it again; what was wrong, or ""."""
    keys = [f"ckpt={prepared.checkpoint}", "vocoder=griffin_lim", "vocoder.n_iter=1", "port=0"]
    keys += ["vocoder.path=null", "voices.dir=voices", "page=false"]
    forms = [(name, (f"{name}.wav", prepared.source.read_bytes())) for name in ("source", "target")]
    good: list[bytes] = []
    others: list[str] = []

    def trouble() -> None:
        if how == "full":
            size = int(2 ** rng.uniform(10, 18))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        elif how == "slow":
            delay_files()

    def address_of(child: int) -> str:
        output = folder / "out"
        while True:
            for line in output.read_text().splitlines() if output.exists() else []:
                if "listening at " in line:
                    return line.split("listening at ")[1].split()[0]
            if trials.wait(child, 0.05):
                return ""

    def ask(address: str) -> None:
        with (
            contextlib.suppress(httpx.TransportError),
            httpx.Client(verify=False, timeout=60) as client,
        ):
            while True:
                answer = client.post(f"{address}/convert", files=forms)
                if answer.status_code == 200:
                    good.append(answer.content)
                else:
                    others.append(answer.text)
                    if how != "slow":
                        time.sleep(0.05)

    child = launched("serve", keys, folder, trouble)
    address = address_of(child)
    clients = [threading.Thread(target=ask, args=(address,), daemon=True) for _ in range(3)]
    for client in clients:
        client.start()
    time.sleep(rng.uniform(0.1, 1.0) * seconds)
    if how == "denied":
        allow(folder / "tmp", 0o555)
        time.sleep(0.3)
        allow(folder / "tmp", 0o755)
    os.killpg(child, signal.SIGKILL)
    ended(child)
    for client in clients:
        client.join(10)
    error = (folder / "err").read_text(errors="replace")
    if "Traceback" in error:
        return f"a traceback: {error.strip().splitlines()[-1]}"
    whole = {len(wav) for wav in good}
    if len(whole) > 1 or any(wav[:4] != b"RIFF" for wav in good):
        return "an answer is not whole"
    if any('"error"' not in text for text in others):
        return f"a refusal is not a sentence: {others[0][:100]}"
    (folder / "out").unlink()
    child = launched("serve", keys, folder)
    address = address_of(child)
    answer = httpx.post(f"{address}/convert", files=forms, timeout=60)
    os.kill(child, signal.SIGTERM)
    if ended(child, 30) != 0 or answer.content[:4] != b"RIFF":
        return f"the next server does not convert or stop: {answer.text[:100]}"
    left = [path.name for path in (folder / "tmp").rglob("*") if path.is_file()]
    return f"recordings are left: {left[:3]}" if left else ""


def main() -> int:
    """Run all trials and print a line for each work."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=10, help="trials of each work")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=20, help="after which no trial begins")
    parser.add_argument("--only", default="", help="one of the works")
    given = parser.parse_args()
    ways = ["kill", "kill", "full", "slow", "denied"]
    began = time.monotonic()
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "bench").mkdir()
        prepared = bench.make(folder / "bench")
        allow(folder / "bench", 0o755)
        for path in (folder / "bench").rglob("*"):
            if path.is_file():
                path.chmod(0o644)
        for work in [*works(prepared), None]:
            title = work.name if work else "serve"
            if given.only not in title:
                continue
            whole: dict[str, Path] = {}
            seconds = 4.0
            if work:
                place = made(folder, f"{title} whole")
                start = time.monotonic()
                code = ended(launched(work.command, work.begin(place), place))
                seconds = time.monotonic() - start
                whole = results(place)
                if code != 0 or not whole:
                    sys.exit(f"{title}: {(place / 'err').read_text()}")
            counts: Counter[str] = Counter()
            for index in range(given.each):
                if time.monotonic() - began > 60 * given.minutes:
                    break
                how = ways[index % len(ways)]
                if how == "denied" and os.geteuid() != 0:
                    how = "kill"
                place = made(folder, f"{title} {index}")
                rng = random.Random(f"{given.seed} {title} {index}")
                if work:
                    wrong = disturbed(work, how, seconds, place, whole, rng)
                else:
                    wrong = served(prepared, how, seconds, place, rng)
                counts[how] += 1
                if wrong:
                    failures += 1
                    print(f"FAILED {title}, {how}, trial {index}: {wrong}", flush=True)
            listed = ", ".join(f"{number} {how}" for how, number in counts.items())
            print(f"{title}: {listed}; an undisturbed run takes {seconds:.1f} s", flush=True)
    print(f"{failures} failed; {time.monotonic() - began:.0f} s")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
