"""Overrides on the command line: quote paths, check names, suggest the nearest key.

Hydra parses these arguments by a grammar of its own. The functions here translate what a person
types, such as a path with spaces or `logger=null`, into that grammar.
"""

import difflib
import os
import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from vc_lightning.common import resources
from vc_lightning.common.errors import InputError, require_flag
from vc_lightning.common.files import expand_user

NOTHING = ("", "null")
FREE_TEXT_KEYS = frozenset(  # Hydra must not parse their values
    [
        *("source", "target", "output", "pairs", "ckpt", "checkpoints"),
        *("speaker_encoder", "vocoder.path", "vocoder.fallback.path"),
        *("data.dir", "data.manifest", "data.pairs", "data.cache_dir"),
        *("data.mels_from", "data.conversions_from", "teacher.model"),
        *("init_from", "ckpt_path", "run_dir", "hydra.run.dir"),
        *("checkpoint.dir", "checkpoint.name", "trained_on", "licence", "cluster.folder"),
        *("callbacks.samples.vocoder.path", "callbacks.conversion_monitor.vocoder.path"),
        *("recogniser", "scorers", "api_key_file"),
        *("speaker", "record", "input_device", "output_device", "live.target"),
        *("voices.dir", "name", "file", "consent", "made_by", "root"),
    ]
)


SWEEP_FLAGS = ("-m", "--multirun", "hydra.mode=MULTIRUN")
OTHER_ACTIONS = ("-c", "--cfg", "-h", "--help", "-i", "--info")  # than running the command
SWEEP_FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(.*\)")  # Hydra's
ELEMENT = re.compile(r"""('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|\[[^\]]*\]|[^,]*)(,|$)""")
GROUPS_OF_SEVERAL = ("callbacks", "logger")  # take lists, such as logger=[csv,tensorboard]


def is_sweep(arguments: Sequence[str]) -> bool:
    """Return whether a command line asks for several jobs, so that a list of values is a sweep."""
    return any(
        argument in SWEEP_FLAGS
        or (argument.startswith("hparams_search=") and argument.partition("=")[2] not in NOTHING)
        for argument in arguments
    )


def key_of(argument: str) -> str:
    """Return the key of an override, without Hydra's `+` and `~`."""
    return argument.partition("=")[0].lstrip("+~")


def swept_keys(arguments: Sequence[str]) -> set[str]:
    """List the keys to which a command line gives several values, or a function of Hydra's."""
    values = ((key_of(argument), argument.partition("=")[2]) for argument in arguments)
    return {k for k, value in values if len(split_sweep(value)) > 1 or re.match(r"\w+\(", value)}


def translate(arguments: Sequence[str]) -> list[str]:
    """Translate a command line into Hydra's grammar.

    Raises:
        InputError: A value cannot be a choice of its group; the message lists the choices.
    """
    sweep = is_sweep(arguments)
    translated = [name_none(argument) for argument in add_new_keys(name_shards(arguments))]
    for argument in translated:
        require_choice(argument)
    if sweep and not set(arguments) & {*SWEEP_FLAGS, *OTHER_ACTIONS}:
        translated.append("--multirun")
    return [quote_free_text(argument, sweep) for argument in translated]


def name_shards(arguments: Sequence[str]) -> list[str]:
    """Take a manifest that is a data set on the Hub as its shards: `data=shards data.dir=hf://…`."""
    given = "data.manifest=hf://datasets/"
    named: list[str] = []
    for argument in arguments:
        is_on_hub = argument.startswith(given)
        place = argument.partition("=")[2]
        named += ["data=shards", f"data.dir={place}"] if is_on_hub else [argument]
    return named


def add_new_keys(arguments: Sequence[str]) -> list[str]:
    """Let a command line that names a class give that class any argument.

    Hydra wants `++` before keys that no file declares. With `callbacks.mine._target_=my.Callback`,
    every argument that begins with `callbacks.mine.` gets it.
    """
    own = [key for key, _, _ in (a.partition("_target_=") for a in arguments) if key.endswith(".")]
    prefixes = tuple(prefix for prefix in own if prefix[0] not in "+~-")
    return [f"++{a}" if prefixes and a.startswith(prefixes) else a for a in arguments]


def name_none(argument: str) -> str:
    """Write `none` for `null` where a group has such a choice: Hydra's groups take names only.

    Args:
        argument: One argument of the command line, such as `logger=null`.
    """
    group, equals, value = argument.partition("=")
    if not equals or "null" not in value or "none" not in group_choices(group):
        return argument
    if value.startswith("["):
        names = [name for name in split_sweep(value[1:-1]) if name.strip() != "null"]
        return f"{group}=[{','.join(names)}]" if names else f"{group}=none"
    names = ["none" if name.strip() == "null" else name for name in split_sweep(value)]
    return f"{group}={','.join(names)}"


def split_sweep(value: str) -> list[str]:
    """Split a value at its commas, except those within quotes or brackets."""
    elements, position, more = [], 0, True
    while more:
        found = ELEMENT.match(value, position)
        assert found is not None  # the pattern matches everywhere
        elements.append(found[1])
        position, more = found.end(), found[2] == ","
    return elements


def quote_free_text(argument: str, sweep: bool = False) -> str:
    """Quote the value of a path or text key, so that Hydra takes it literally.

    File names may hold spaces, commas, `=`, quotes and brackets. A list `[a,b]` or a quoted value
    stays unchanged unless a file has exactly that name.

    Args:
        argument: One argument of the command line, such as `source=a, b.wav`.
        sweep: Whether commas separate the values of several jobs; a path with a comma then needs
            quotes, as in Hydra's own grammar.

    Returns:
        The argument with its value quoted, or unchanged if the key is not in `FREE_TEXT_KEYS`.
    """
    key, equals, value = argument.partition("=")
    if key.lstrip("+") not in FREE_TEXT_KEYS or not equals:
        return argument
    if sweep and SWEEP_FUNCTION.fullmatch(value):
        return argument
    values = split_sweep(value) if sweep else [value]
    return f"{key}={','.join(quote_value(one) for one in values)}"


def quote_value(value: str) -> str:
    """Quote a path or text; a list, a quoted value and `null` stay unchanged."""
    is_list = value.startswith("[") and value.endswith("]")
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    is_special = is_list or is_quoted or value in NOTHING or value.startswith("${")
    if is_special and not (value and os.path.lexists(value)):
        return value
    if value.startswith("~") and not os.path.lexists(value):
        value = str(expand_user(value))  # shells expand it only at the beginning of a word
    # OmegaConf reads backslashes before `${` in pairs, and an odd one as its escape.
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    return QuotedString(text, Quote.single).with_quotes()


def require_kinds(cfg: DictConfig, config_name: str) -> None:
    """Check that groups of keys still have keys, and that flags are still true or false.

    Args:
        cfg: The composed configuration.
        config_name: The command's file in `conf/`, without `.yaml`, which says what they are.

    Raises:
        InputError: A value is of another kind; the message names its key.
    """
    written = [item for file in _files(config_name) for item in file.items()]
    groups = [name for name, value in written if isinstance(value, dict)]
    defaults = [one for name, value in written if name == "defaults" for one in value]
    choices = [item for one in defaults if isinstance(one, dict) for item in one.items()]
    groups += [name for name, choice in choices if choice not in (None, "none")]
    for name in groups:
        if name in cfg and not isinstance(cfg[name], DictConfig):
            shown = "null" if cfg[name] is None else cfg[name]
            raise InputError(f"{name}={shown}: has keys of its own; set those")
    others = {name for name, value in written if not isinstance(value, bool)}
    for name, _ in written:
        if name not in others:
            require_flag(name, cfg[name])


def require_choice(argument: str) -> None:
    """Refuse null, a list or a number where a group needs the name of a choice.

    Raises:
        InputError: The value cannot be a name; the message lists the choices.
    """
    group, _, choice = argument.partition("=")
    choices = group_choices(group.removeprefix("+"))
    if not choices or (choice.startswith("[") and group in GROUPS_OF_SEVERAL):
        return
    if re.match(r"[\[{\d.+-]|null$", choice):
        raise InputError(f"{argument}: choose one of {', '.join(choices)}")


def group_choices(group: str) -> list[str]:
    """List the choices of a group, the names of its files in `conf/`."""
    return sorted(path.stem for path in (resources.CONF / group).glob("*.yaml"))


def described_choices(config_name: str) -> str:
    """Describe each group of a command and its choices by the first sentence of their files.

    Args:
        config_name: The command's file in `conf/`, without `.yaml`.

    Returns:
        Lines of text for `--help`.
    """
    lines = []
    for group in groups_of(config_name):
        lines.append(f"{group}=")
        for name in group_choices(group):
            text = (resources.CONF / group / f"{name}.yaml").read_text(encoding="utf-8")
            comments = re.findall(r"^# (?!@package)(.*)$", text.split("\n\n")[0], re.MULTILINE)
            sentence = re.split(r"(?<=[^.][.]) ", " ".join(comments[:2]))[0]
            lines.append(f"  {name:<20} {sentence}".replace("$", "$$"))
    heading = "Choices, one of each group (GROUP=CHOICE):\n\n"
    return heading + "\n".join(lines) if lines else ""


def groups_of(config_name: str) -> list[str]:
    """List the groups of which a command's user can choose a file."""
    groups = []
    for default in resources.settings("", config_name).get("defaults", []):
        if isinstance(default, dict):
            groups += [group for group in default if (resources.CONF / group).is_dir()]
        elif default != "_self_":
            groups += groups_of(default)
    return list(dict.fromkeys(groups))


def _files(config_name: str) -> list[dict]:
    """Read the file of a command and those that it includes."""
    own = resources.settings("", config_name)
    defaults = own.get("defaults", [])
    included = [name for name in defaults if isinstance(name, str) and name != "_self_"]
    return [own, *(file for name in included for file in _files(name))]


def explain_unknown_choice(message: str, keys: Sequence[str]) -> str:
    """Explain Hydra's error about an unknown group or choice in one sentence.

    Args:
        message: Hydra's error message.
        keys: All keys and groups of the command.

    Returns:
        The sentence, with the nearest known name if there is one.
    """
    wanted = re.search(r"'([^']*)/([^'/]*)'", message)
    if not wanted:
        return message
    group, choice = wanted.groups()
    choices = group_choices(group)
    if not choices:
        return f"there is no group {group}{suggestion(group, keys)}"
    listed = ", ".join(choices)
    return f"{group}={choice} does not exist{suggestion(choice, choices)}; choose one of {listed}"


def suggestion(name: str, names: Sequence[str]) -> str:
    """Suggest the name that is spelt most like `name`, or `--help` if none is near."""
    matches = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]}?" if matches else "; --help lists them"


def known_keys(config_name: str) -> list[str]:
    """List every key and group of a command.

    Args:
        config_name: The command's file in `conf/`, without `.yaml`.

    Returns:
        Dotted names, sorted.
    """
    names = [key for file in _files(config_name) for key in _flatten(file)]
    for group in groups_of(config_name):
        names.append(group)
        for path in (resources.CONF / group).rglob("*.yaml"):
            options: Any = OmegaConf.to_container(OmegaConf.load(path))
            names += _flatten(options, f"{group}.")
    return sorted(set(names))


def _flatten(config: dict, prefix: str = "") -> list[str]:
    names = []
    for key, value in config.items():
        if str(key).startswith("_") or key == "defaults":
            continue
        names.append(f"{prefix}{key}")
        if isinstance(value, dict):
            names += _flatten(value, f"{prefix}{key}.")
    return names
