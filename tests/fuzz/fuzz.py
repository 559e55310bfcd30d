"""Whether anything breaks: command lines with strange input, by the thousand.

    python tests/fuzz/fuzz.py audio|configs|checkpoints [--cases 1000] [--seed 0] [--long]

Every case is a command line in a process of its own, forked from this one, with a tiny network.
It must succeed, or be refused by one sentence on stderr and exit code 2: no traceback, no other
exit code, no temporary or partial file left behind, no code run, no memory beyond --memory, no
end later than --seconds. --keep FOLDER keeps what belongs to the failures.
"""

import argparse
import importlib
import tempfile
import time
from collections import Counter
from pathlib import Path

from fuzzing import bench, trials

from vc_lightning.commands import convert, evaluate, prepare, train  # noqa: F401  once, for all cases


def main() -> None:
    """Print every failure and a table of what came of the cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["audio", "configs", "checkpoints"])
    parser.add_argument("--cases", type=int, help="how many of them; all without it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--long", action="store_true", help="those that take minutes, alone")
    parser.add_argument("--only", default="", help="those whose names hold this")
    parser.add_argument("--memory", type=float, default=2.0, help="GiB that a command may need")
    parser.add_argument("--seconds", type=float, default=60.0, help="that a command may take")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="of all cases")
    parser.add_argument("--keep", type=Path, help="a folder for what belongs to the failures")
    given = parser.parse_args()
    module = importlib.import_module(f"fuzzing.{given.what}")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared = bench.make(folder)
        trials.run_all(first_trials(prepared), folder / "first", 8 * trials.GIB, 300)
        listed = module.long_trials(prepared) if given.long else module.trials(prepared, given.seed)
        chosen = trials.sample(
            [trial for trial in listed if given.only in trial.name], given.cases, given.seed
        )
        results = trials.run_all(
            chosen,
            folder / "trials",
            int(given.memory * trials.GIB),
            given.seconds,
            given.keep,
            given.minutes,
        )
    counts = Counter("failed" if o.failed else o.verdict for o in results.values())
    peak = max(result.peak for result in results.values()) / trials.GIB
    print(
        f"{given.what}, seed {given.seed}: {len(results)} of {len(listed)} cases in "
        f"{time.perf_counter() - began:.0f} s: {counts['succeeded']} succeeded, "
        f"{counts['refused']} refused, {counts['failed']} failed; most memory {peak:.2f} GiB"
    )


def first_trials(prepared: bench.Bench) -> list[trials.Trial]:
    """Trainings that leave what others need: features, a last.ckpt, shards and compiled code."""
    run_dir = prepared.last.parents[1]
    return [
        trials.Trial("a training", "train", lambda _: prepared.train(run_dir=run_dir)),
        trials.Trial(
            "shards",
            "prepare",
            lambda _: ["verb=shards", f"output={prepared.shards}", *prepared.train()],
        ),
    ]


if __name__ == "__main__":
    main()
