"""Whether anything breaks: hostile input, by the thousand.

    python tests/fuzz/fuzz.py all|audio|configs|checkpoints|requests [--cases 1000] [--seed 0]

Every case but requests is a command line in a process of its own, forked from this one, with a tiny
network. It must succeed, or be refused by one sentence on stderr and exit code 2: no traceback, no
other exit code, no temporary or partial file left behind, no code run, no memory beyond --memory,
no end later than --seconds. Requests (HTTP, forms, the page, WebSockets) go to one server, which
must serve or refuse each in time, log no bug, and convert afterwards. `all` divides the cases
equally among the four kinds. --keep FOLDER keeps what belongs to the failures of command lines.
"""

import argparse
import importlib
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import scipy.signal  # noqa: F401  once, for all cases
from fuzzing import bench, requests, trials

from vc_lightning.commands import convert, evaluate, prepare, train  # noqa: F401  likewise

KINDS = ("audio", "configs", "checkpoints", "requests")


def main() -> int:
    """Print every failure and a table of what came of the cases; return 1 if there is a failure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["all", *KINDS])
    parser.add_argument(
        "--cases", type=int, help="how many of them; all (of requests 1000) without it"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--long", action="store_true", help="those that take minutes, alone")
    parser.add_argument("--only", default="", help="those whose names hold this")
    parser.add_argument("--memory", type=float, default=2.0, help="GiB that a command may need")
    parser.add_argument("--seconds", type=float, default=60.0, help="that a case may take")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="of all cases")
    parser.add_argument("--keep", type=Path, help="a folder for what belongs to the failures")
    given = parser.parse_args()
    kinds = KINDS if given.what == "all" else (given.what,)
    if given.cases is not None:
        given.cases //= len(kinds)
    given.minutes /= len(kinds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared = bench.make(folder)
        if kinds != ("requests",):
            trials.run_all(first_trials(prepared), folder / "first", 8 * trials.GIB, 300)
        results = [run(kind, given, prepared, folder / kind) for kind in kinds]
    return int(any(result.failed for of_kind in results for result in of_kind.values()))


def run(
    kind: str, given: argparse.Namespace, prepared: bench.Bench, folder: Path
) -> dict[str, trials.TrialResult]:
    """Run the cases of one kind and print a line about them."""
    began = time.perf_counter()
    memory = int(given.memory * trials.GIB)
    if kind == "requests":
        number = 1000 if given.cases is None else given.cases
        results = requests.run(
            prepared, folder, number, given.seed, memory, given.seconds, given.minutes
        )
    else:
        module = importlib.import_module(f"fuzzing.{kind}")
        listed = module.long_trials(prepared) if given.long else module.trials(prepared, given.seed)
        chosen = trials.sample(
            [trial for trial in listed if given.only in trial.name], given.cases, given.seed
        )
        results = trials.run_all(chosen, folder, memory, given.seconds, given.keep, given.minutes)
    counts = Counter("failed" if o.failed else o.verdict for o in results.values())
    hangs = sum("not done in" in o.verdict or "in time" in o.verdict for o in results.values())
    peak = max((result.peak for result in results.values()), default=0) / trials.GIB
    slowest = max((result.seconds for result in results.values()), default=0)
    print(
        f"{kind}, seed {given.seed}: {len(results)} cases in {time.perf_counter() - began:.0f} s: "
        f"{counts['succeeded']} succeeded, {counts['refused']} refused, {counts['failed']} failed, "
        f"{hangs} of them late; the slowest took {slowest:.0f} s; most memory {peak:.2f} GiB",
        flush=True,
    )
    return results


def first_trials(prepared: bench.Bench) -> list[trials.Trial]:
    """Training runs that leave what others need: features, last.ckpt, shards and compiled code."""
    run_dir = prepared.last.parents[1]
    return [
        trials.Trial("a training run", "train", lambda _: prepared.train(run_dir=run_dir)),
        trials.Trial(
            "shards",
            "prepare",
            lambda _: ["verb=shards", f"output={prepared.shards}", *prepared.train()],
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
