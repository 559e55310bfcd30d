"""Overrides on the command line: quote paths, check names, suggest the nearest key."""

import difflib
import os
import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import expand_user
from vc_lightning.common.renamed_keys import current_key

FREE_TEXT_KEYS = frozenset(  # Hydra must not parse their values
    [
        *("source", "target", "output", "also", "pairs", "inspect", "ckpt", "checkpoints"),
        *("speaker_encoder", "vocoder.path", "vocoder.magnitude", "vocoder.fallback.magnitude"),
        *("data.dir", "data.manifest", "data.pairs", "data.cache_dir", "data.write_shards"),
        *("data.mels_from", "teacher.model", "init_from", "ckpt_path", "run_dir", "hydra.run.dir"),
        *("checkpoint.dir", "checkpoint.name", "trained_on", "licence", "cluster.folder"),
        *("callbacks.samples.vocoder.magnitude", "callbacks.conversion_monitor.vocoder.magnitude"),
        *("recogniser", "scorers", "api_key_file"),
        *("speaker", "record", "input_device", "output_device", "serve.token"),
        *("voices.dir", "voices.learn", "voices.export", "voices.import", "voices.name"),
        *("voices.consent", "voices.made_by", "voices.licence"),
    ]
)


def quote_free_text(argument: str) -> str:
    """Quote the value of a path or text key, so that Hydra takes it literally.

    File names may hold spaces, commas, `=`, quotes and brackets. A list `[a,b]` or a quoted value
    stays unchanged unless a file has exactly that name.

    Args:
        argument: One argument of the command line, such as `source=a, b.wav`.

    Returns:
        The argument with its value quoted, or unchanged if the key is not in `FREE_TEXT_KEYS`.
    """
    key, equals, value = argument.partition("=")
    if key.lstrip("+") not in FREE_TEXT_KEYS or not equals:
        return argument
    is_list = value.startswith("[") and value.endswith("]")
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    is_special = is_list or is_quoted or value in ("", "null") or value.startswith("${")
    if is_special and not (value and os.path.lexists(value)):
        return argument
    if value.startswith("~") and not os.path.lexists(value):
        value = str(expand_user(value))  # shells expand it only at the beginning of a word
    # OmegaConf reads backslashes before `${` in pairs, and an odd one as its escape.
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    return f"{key}={QuotedString(text, Quote.single).with_quotes()}"


def require_groups(cfg: DictConfig, config_name: str) -> None:
    """Check that no group of keys was replaced by a single value.

    Args:
        cfg: The composed configuration.
        config_name: The command's file in `conf/`, without `.yaml`.

    Raises:
        InputError: A group has no keys; the message names it and its value.
    """
    written = resources.settings("", config_name)
    groups = [name for name, value in written.items() if isinstance(value, dict)]
    for default in written["defaults"]:
        if isinstance(default, dict):
            groups += [name for name, choice in default.items() if choice not in (None, "none")]
    for name in groups:
        if name in cfg and not isinstance(cfg[name], DictConfig):
            shown = "null" if cfg[name] is None else cfg[name]
            raise InputError(f"{name}={shown}: has keys of its own; set those")


def require_current_key(argument: str) -> None:
    """Refuse a key that has been renamed.

    Args:
        argument: One argument of the command line.

    Raises:
        InputError: The key was renamed; the message gives the new name.
    """
    key = argument.partition("=")[0].lstrip("+~")
    if (new := current_key(key)) is not None:
        raise InputError(f"{key}: this key is now called {new}")


def require_choice(argument: str) -> None:
    """Refuse a list or number where a group needs the name of a choice.

    Args:
        argument: One argument of the command line.

    Raises:
        InputError: The value cannot be a name; the message lists the choices.
    """
    group, _, choice = argument.partition("=")
    if not re.match(r"[\[{\d.+-]", choice) or not group_choices(group):
        return
    raise InputError(f"{argument}: is no choice; there are {', '.join(group_choices(group))}")


def group_choices(group: str) -> list[str]:
    """List the choices of a group, the names of its files in `conf/`."""
    return sorted(path.stem for path in (resources.CONF / group).glob("*.yaml"))


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
    return f"{group}={choice} does not exist{suggestion(choice, choices)}; there are {listed}"


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
    config = resources.settings("", config_name)
    names = _flatten(config, "")
    for default in config["defaults"]:
        if isinstance(default, str) and default != "_self_":
            names += _flatten(resources.settings("", default), "")
        group = next(iter(default)).removeprefix("optional ") if isinstance(default, dict) else ""
        if (resources.CONF / group).is_dir() and group:
            names.append(group)
            for path in (resources.CONF / group).rglob("*.yaml"):
                options: Any = OmegaConf.to_container(OmegaConf.load(path))
                names += _flatten(options, f"{group}.")
    return sorted(set(names))


def _flatten(config: dict, prefix: str) -> list[str]:
    names = []
    for key, value in config.items():
        if str(key).startswith("_") or key == "defaults":
            continue
        names.append(f"{prefix}{key}")
        if isinstance(value, dict):
            names += _flatten(value, f"{prefix}{key}.")
    return names
