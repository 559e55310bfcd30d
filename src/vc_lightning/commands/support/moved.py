"""Keys that have another place: of the last version, and of other projects on Lightning and Hydra.

A key of the last version that now belongs to another command is refused with the line to type.
"""

from collections.abc import Sequence
from shlex import quote

from vc_lightning.commands.support.overrides import key_of
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError

OFF = ("false", "False", "null", "none", "", "[]")
MOVED = {  # command: key of version 0.3.0: command, verb and, in place of the key, what to type
    "train": {
        "data.check": ("prepare", "check", None),
        "data.write_shards": ("prepare", "shards", "output="),
        "part": ("prepare", "features", "part="),
        "cluster": ("prepare", "features", "cluster="),
    },
    "convert": {
        "voices.learn": ("voices", "learn", ""),
        "voices.list": ("voices", "list", None),
        "voices.export": ("voices", "export", ""),
        "voices.import": ("voices", "import", ""),
        "inspect": ("voices", "show", ""),
    },
}
RENAMED_HERE = {  # of version 0.3.0, within a command
    "train": {"init_freq": "ckpt_freq"},
    "evaluate": {"judges": "scorers"},
    "app": {"max_waiting": "max_requests"},
}
RENAMED_EVERYWHERE = {"vocoder.magnitude": "vocoder.path"}  # of version 0.3.0
RENAMED = {  # that go with the keys of MOVED
    "data.shard_megabytes": "shard_megabytes",
    "data.shard_utterances": "shard_utterances",
    "voices.name": "name",
    "voices.consent": "consent",
    "voices.made_by": "made_by",
    "voices.licence": "licence",
}
ELSEWHERE = {  # of the Lightning-Hydra template and its like
    "datamodule": "data",
    "data.data_dir": "data.dir",
    "paths.data_dir": "data.dir",
    "paths.output_dir": "run_dir",
    "paths.log_dir": "hydra.run.dir",
    "extras.print_config": "print_config",
    "extras.enforce_tags": "tags",
    "model.compile": "compile",
    "model.net": "model",
    "model.optimizer": "optimizer",
    "model.scheduler": "scheduler",
    "callbacks.model_checkpoint": "checkpoint",
    "callbacks.rich_progress_bar": "callbacks.progress",
}


def require_current(command: str, arguments: Sequence[str]) -> None:
    """Refuse keys that have another place.

    Args:
        command: The command's name, such as "train".
        arguments: All arguments of the command line.

    Raises:
        InputError: A key belongs elsewhere; the message gives the line to type, or the key.
    """
    moved = MOVED.get(command, {})
    for argument in arguments:
        key, _, value = argument.partition("=")
        key = key.lstrip("+~")
        if key in moved:
            if value in OFF:
                raise InputError(f"{key}: {command}.py has no such key any more; leave it out")
            raise InputError(f"{key}: type instead: {new_line(moved, arguments)}")
    renamed = {**RENAMED_EVERYWHERE, **RENAMED_HERE.get(command, {})}
    renamed |= ELSEWHERE if command == "train" else {}
    for argument in arguments:
        key = key_of(argument)
        for old, new in renamed.items():
            if key == old or key.startswith(f"{old}."):
                raise InputError(f"{key}: this key is called {new}{key.removeprefix(old)}")
        if command != "train":
            continue
        if key.partition(".")[0] == "extras":
            raise InputError(f"{key}: there is no group extras; its keys are print_config and tags")
        if key == "test":
            raise InputError(
                f"{argument}: train.py logs the losses of held-out recordings as val/…; "
                f"{resources.command('evaluate')} data.manifest=TABLE ckpt=FILE scores conversions "
                "of its test split"
            )


def new_line(moved: dict[str, tuple[str, str, str | None]], arguments: Sequence[str]) -> str:
    """Translate a command line of version 0.3.0.

    Args:
        moved: The command's entry of `MOVED`.
        arguments: The old arguments, one of which is a key of `moved`.
    """
    first: list[str] = []
    others: list[str] = []
    command = verb = ""
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key in moved and value not in OFF:
            command, verb, replacement = moved[key]
            if replacement is not None:
                (first if replacement == "" else others).append(replacement + value)
        elif key not in moved:
            others.append(f"{RENAMED.get(key, key)}{equals}{value}")
    return " ".join([resources.command(command), verb, *map(quote, first + others)])
