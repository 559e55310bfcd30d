"""Every key of every command with values that nobody means."""

import functools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from fuzzing.bench import Bench
from fuzzing.trials import Trial
from vc_lightning.common import resources

VALUES = (
    *("abc", "''", "null", "true", "false", "???", "'a b,c=[d'", "'ж 日本'", f"'{'x' * 10_000}'"),
    *("-1", "0", "1", "2", "3", "0.5", "-0.5", "1e-400", "1e400", "-1e30", "nan", "inf", "-inf"),
    *("1000000", "2147483648", "99999999999999999999", "[]", "[1,2]", "[a]", "[null]", "[[1]]"),
    *("{}", "{a:1}", "{_target_:abc}", "${x}", "'${x}'", "${run_dir}", "${.}", r"\${x}", "${"),
)
PROCESSES = ("trainer.devices", "trainer.num_nodes")  # each is one more, or is waited for for ever
MANY = ("1000000", "2147483648", "99999999999999999999", "2", "3", "[1,2]")
SHARDLESS = {"data__cache_dir": None, "data__val_fraction": None}  # data=shards knows them not
TINY_VOCODER = {"rnn_dims": 8, "fc_dims": 8}
TINY_PLAIN = TINY_VOCODER | {"compute_dims": 8, "res_out_dims": 8, "res_blocks": 1}
TINY_MULTIBAND = TINY_VOCODER | {"frame_dims": 8, "frame_blocks": 1}


def situations(bench: Bench) -> Iterator[tuple[str, list[str]]]:
    """Commands that work, which between them have every key of every choice."""
    yield "convert", bench.convert()
    yield (
        "convert",
        bench.convert(vocoder="auto", vocoder__n_iter=None, vocoder__fallback__n_iter=1),
    )
    yield "evaluate", bench.evaluate()
    train = functools.partial(bench.train, trainer__max_time="00:00:00:05")
    yield "train", train()
    yield "train", train(logger="csv", data="augmented")
    yield "train", train(data="shards", data__dir=bench.shards, **SHARDLESS)
    yield "train", train(model="pretrained", init_from=bench.checkpoint)
    names = ("samples", "conversion_monitor")
    shown = {f"callbacks__{name}__every_n_steps": 1 for name in names}
    iterations = {f"callbacks__{name}__vocoder__n_iter": 1 for name in names}
    yield "train", train(logger="tensorboard", **shown, **iterations)
    for model, sizes in (("wavernn", TINY_PLAIN), ("wavernn_multiband", TINY_MULTIBAND)):
        tiny = {f"model__{name}": size for name, size in sizes.items()}
        yield "train", train(experiment="wavernn", model=model, data__crop_frames=4, **tiny)
    yield "train", train(experiment="finetune", model="pretrained", init_from=bench.checkpoint)


def trials(bench: Bench, seed: int) -> list[Trial]:
    """Every key of every situation with every value, without it, and without its group."""
    found = {}
    for command, arguments in situations(bench):
        cfg = composed(command, arguments)
        for key in keys(cfg):
            values = [v for v in VALUES if not (key in PROCESSES and v in MANY)]
            for change in [*(f"{key}={value}" for value in values), f"~{key}"]:
                found.setdefault(f"{command} {change}", []).append([*arguments, change])
        for group in sorted(path.name for path in resources.CONF.iterdir() if path.is_dir()):
            for change in (f"{group}=abc", f"{group}=null", f"~{group}", f"{group}=[a,b]"):
                found.setdefault(f"{command} {change}", []).append([*arguments, change])
    rng = random.Random(seed)
    return [
        Trial(name[:120], name.split()[0], functools.partial(_given, rng.choice(lines)))
        for name, lines in found.items()
    ]


def long_trials(bench: Bench) -> list[Trial]:
    """Two changes at once."""
    rng = random.Random(0)
    singles = trials(bench, 0)
    pairs = []
    for _ in range(2_000):
        command = rng.choice(("convert", "train", "evaluate"))
        first, second = rng.sample([t for t in singles if t.command == command], 2)
        arguments = [*first.make(Path()), second.make(Path())[-1]]
        name = f"{first.name} and {second.name}"
        pairs.append(Trial(name, command, functools.partial(_given, arguments)))
    return pairs


def _given(arguments: list[str], _: Path) -> list[str]:
    return arguments


def composed(command: str, arguments: Sequence[str]) -> DictConfig:
    """The configuration of a command line."""
    with initialize_config_dir(str(resources.CONF), version_base="1.3"):
        return compose(command, list(arguments))


def keys(cfg: DictConfig) -> list[str]:
    """Dotted names of everything in a configuration."""

    def names(node: dict, prefix: str) -> Iterator[str]:
        for name, value in node.items():
            if not str(name).startswith("_"):
                yield f"{prefix}{name}"
                if isinstance(value, dict):
                    yield from names(value, f"{prefix}{name}.")

    return list(names(OmegaConf.to_container(cfg, resolve=False), ""))
