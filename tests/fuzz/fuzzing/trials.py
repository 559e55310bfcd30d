"""One command line in a process of its own, and whether it ended as it may."""

import contextlib
import os
import random
import resource
import runpy
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vc_lightning.commands.support.entry_point import EXIT_BAD_INPUT
from vc_lightning.common import resources

GIB = 2**30
ADDRESS_SPACE = 8 * GIB  # beyond this the process gets no more memory
CANARY = "code-was-run"  # a file that hostile input tries to make in the working folder
PROGRESS_BARS = ("features:", "mels:")
LIBRARY_NOTES = ("Note: ", "[src/libmpg123")  # that libsndfile's MP3 decoder prints on its own


@dataclass(frozen=True)
class Trial:
    """A command line that may succeed or be refused, and nothing else.

    Attributes:
        name: what is strange about it, enough to make it again.
        command: "convert", "train" or "evaluate".
        make: writes the input into a folder and gives the arguments.
        says: lets the output of a success be judged; gives what is wrong with it, or "".
        may_be_refused: False where only success will do.
    """

    name: str
    command: str
    make: Callable[[Path], list[str]]
    says: Callable[[str], str] = lambda _: ""
    may_be_refused: bool = True


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended.

    Attributes:
        verdict: "succeeded", "refused", or what was wrong.
        sentence: the last line on stderr.
        peak: resident memory in bytes, without that of the process it was forked from.
    """

    verdict: str
    sentence: str
    seconds: float
    peak: int

    @property
    def failed(self) -> bool:
        """Whether it ended as it may not."""
        return self.verdict not in ("succeeded", "refused")


def run(trial: Trial, folder: Path, memory: int, seconds: float) -> TrialResult:
    """Run a trial in an empty folder: `input` is what it is given, `here` where it works.

    Args:
        memory: the most bytes that it may need beyond those of this process.
        seconds: how long it may take.
    """
    for name in ("input", "here", "tmp"):
        (folder / name).mkdir(parents=True)
    arguments = trial.make(folder / "input")
    inherited = _anonymous_bytes()
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        be_the_command(trial.command, arguments, folder)
    in_time = wait(child, seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # and its workers, should it have left any
    _, status, usage = os.wait4(child, 0)
    took = time.perf_counter() - began
    stdout, stderr = ((folder / name).read_text(errors="replace") for name in ("out", "err"))
    lines = [line for line in stderr.split("\n") if line and not _is_other(line)]
    peak = max(0, usage.ru_maxrss * 1024 - inherited)
    code = os.waitstatus_to_exitcode(status)
    verdict = _verdict(code, lines, stdout, folder) if in_time else f"not done in {seconds:g} s"
    if verdict == "succeeded":
        verdict = trial.says(stdout) or verdict
    if verdict == "refused" and not trial.may_be_refused:
        verdict = "was refused"
    if verdict in ("succeeded", "refused") and peak > memory:
        verdict = f"took {peak / GIB:.2f} GiB of memory"
    return TrialResult(verdict, lines[-1] if lines else "", took, peak)


def _anonymous_bytes() -> int:
    """Return the memory of this process that a forked one begins with: none of its files'."""
    _, resident, of_files, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (resident - of_files) * os.sysconf("SC_PAGE_SIZE")


def be_the_command(
    command: str, arguments: list[str], folder: Path, trouble: Callable[[], object] = lambda: None
) -> None:
    """Become `python COMMAND.py ARGUMENTS`, without importing everything again; never return.

    Args: trouble, called before the command begins.
    """
    code = 70
    try:
        os.setsid()
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), descriptor)
        # A test has put others in their place.
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
        os.chdir(folder / "here")
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.argv = [f"{command}.py", *arguments]
        trouble()
        try:
            runpy.run_path(str(resources.ROOT / f"{command}.py"), run_name="__main__")
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def wait(child: int, seconds: float) -> bool:
    """Whether a process ends in time."""
    descriptor = os.pidfd_open(child)
    try:
        ready, _, _ = select.select([descriptor], [], [], seconds)
    finally:
        os.close(descriptor)
    return bool(ready)


def _is_other(line: str) -> bool:
    """Whether a line is of a progress bar or a library."""
    return line.rsplit("\r", 1)[-1].startswith(PROGRESS_BARS + LIBRARY_NOTES)


def _verdict(code: int, lines: list[str], stdout: str, folder: Path) -> str:
    """What the exit code, the output and the files left behind say."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    names = [str(path.relative_to(folder)) for path in files]
    if any(path.name == CANARY for path in files):
        return "code was run"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    if "Traceback" in stdout or any("Traceback" in line for line in lines):
        return f"traceback ending in {lines[-1] if lines else stdout.splitlines()[-1]}"
    if code not in (0, EXIT_BAD_INPUT):
        return f"exit code {code}"
    left = [n for n in names if n.startswith("tmp/") or Path(n).name.startswith(".")]
    if code == EXIT_BAD_INPUT:
        left += [name for name in names if name.startswith("here/") and name.endswith(".wav")]
        if len(lines) != 1 or not lines[0].startswith("error: "):
            return f"{len(lines)} lines on stderr in place of one sentence"
    if left:
        return f"left {', '.join(sorted(left)[:3])} behind"
    return "refused" if code else "succeeded"


def run_all(
    trials: list[Trial],
    folder: Path,
    memory: int,
    seconds: float,
    keep: Path | None = None,
    minutes: float = float("inf"),
) -> dict[str, TrialResult]:
    """Run trials one after the other and report every failure on stdout as it happens.

    Args: keep, a folder for all that belongs to the failures; minutes, after which none begins.
    """
    results = {}
    began = time.perf_counter()
    for number, trial in enumerate(trials):
        if time.perf_counter() - began > 60 * minutes:
            break
        place = folder / str(number)
        result = results[trial.name] = run(trial, place, memory, seconds)
        if result.failed:
            print(f"FAILED {trial.name}: {result.verdict}\n  {result.sentence[:300]}", flush=True)
            if keep:
                shutil.copytree(place, keep / str(number), dirs_exist_ok=True)
        shutil.rmtree(place)
    return results


def sample(trials: list[Trial], count: int | None, seed: int) -> list[Trial]:
    """So many of the trials, in any order; None for all."""
    count = len(trials) if count is None else min(count, len(trials))
    return random.Random(seed).sample(trials, count)
