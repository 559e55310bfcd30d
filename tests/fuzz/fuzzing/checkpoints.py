"""Weight files of every layout: damaged, foreign, lying and hostile, wherever one is read."""

import functools
import itertools
import random
from collections.abc import Callable
from pathlib import Path

from fuzzing import damage, hostile, weights
from fuzzing.bench import Bench
from fuzzing.trials import Trial

CUTS = 200
FLIPS = 60
DAMAGE = (damage.flipped, damage.flipped_header, damage.huge_size, damage.shuffled)
Given = Callable[[Path], list[str]]  # the arguments that have a file read


def trials(bench: Bench, seed: int) -> list[Trial]:
    """Every file damaged in every way, and given where it belongs or where it does not."""
    rng = random.Random(seed)
    given = readers(bench)
    found = []
    for name, key, content in weights.whole_files(bench):
        for place in sorted(rng.sample(range(len(content)), CUTS)):
            found.append(
                _trial(
                    f"{name} cut at {place}", given[key], functools.partial(_cut, content, place)
                )
            )
        for how, index in itertools.product(DAMAGE, range(FLIPS)):
            title = f"{name} {how.__name__} {index}"
            damaged = functools.partial(_damaged, how, content, f"{seed} {title}")
            found.append(_trial(title, given[key], damaged))
        for lie, header, body in hostile.lies(content):
            joined = functools.partial(hostile.packed, header, body)
            found.append(_trial(f"{name} where {lie}", given[key], joined))
        for elsewhere, read in given.items():
            found.append(_trial(f"{name} as {elsewhere}", read, lambda content=content: content))
    for (name, content), (key, read) in itertools.product(hostile.files(), given.items()):
        found.append(_trial(f"hostile {name} as {key}", read, content))
    return found


def _trial(name: str, given: Given, content: Callable[[], bytes]) -> Trial:
    def make(folder: Path) -> list[str]:
        path = folder / "weights"
        path.write_bytes(content())
        return given(path)

    command = "train" if "data.dir=" in " ".join(given(Path("x"))) else "convert"
    return Trial(name, command, make)


def _cut(content: bytes, place: int) -> bytes:
    return content[:place]


def _damaged(how: Callable, content: bytes, seed: str) -> bytes:
    return how(content, random.Random(seed))


def long_trials(bench: Bench) -> list[Trial]:
    """None take minutes."""
    return trials(bench, 0)[:1]


def readers(bench: Bench) -> dict[str, Given]:
    """Every key of a command line that names a file of weights, and a command line with it."""
    vocoder = {"vocoder": "wavernn", "vocoder.n_iter": None}
    two_steps = {"ckpt_freq": 8, "trainer.max_steps": 2}
    return {
        "ckpt": lambda path: bench.convert(ckpt=path, ckpt_freq=8),
        "speaker_encoder": lambda path: bench.convert(speaker_encoder=path),
        "vocoder.path": lambda path: bench.convert(**vocoder, **{"vocoder.path": path}),
        "griffin_lim's path": lambda path: bench.convert(**{"vocoder.path": path}),
        "training run's encoder": lambda path: bench.train(speaker_encoder=path),
        "init_from": lambda path: bench.train(init_from=path, **two_steps),
        "ckpt_path": lambda path: bench.train(ckpt_path=path, **two_steps),
    }
