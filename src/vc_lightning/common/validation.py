"""Validate config values against the type hints of their targets.

Pydantic 2.14 would do it too, but takes 5 to 7 % of the start of a conversion (0.18 to 0.22 s of
CPU time of 3.2 s, with `validate_call` on sixty constructors; this module 0.7 ms). Its errors are
three lines that name a position in place of a key, and it refuses a mapping with a `_target_` where
the object that it builds is wanted. Hydra-zen has values checked by pydantic or beartype.
"""

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pydoc import locate
from typing import Any

from vc_lightning.common.errors import InputError

MAX_SHOWN = 80  # characters of a value in a sentence
WORDS = {  # how a message describes a type
    int: "an integer",
    float: "a number",
    str: "text",
    Path: "a path",
    bool: "true or false",
    type(None): "null",
}


def require_fitting(config: Mapping, prefix: str = "") -> None:
    """Check a configuration against the type hints of the classes and functions it builds.

    Without this check, a wrong type would be noticed at its first use, perhaps hours later.

    Args:
        config: Plain values; a mapping with a `_target_` holds the arguments of that class or
            function.
        prefix: Dotted name of `config` with a dot at its end, or "".

    Raises:
        InputError: A value does not fit, or an argument is missing or unknown; the message names
            the key.
    """
    target = config.get("_target_")
    function = locate(target) if isinstance(target, str) else None
    if callable(function):
        _require_known(function, config, prefix)
        require_arguments(function, config, prefix)
    for name, value in config.items():
        for place, part in _parts(f"{prefix}{name}", value):
            require_fitting(part, f"{place}.")
    if callable(function) and config.get("_partial_"):
        _require_whole(function, config, prefix)


def require_arguments(function: Callable, arguments: Mapping, prefix: str = "") -> None:
    """Check arguments against the type hints of a function or class.

    Args:
        function: The function or class.
        arguments: Names and values.
        prefix: What precedes the names in a message, with a dot at its end, or "".

    Raises:
        InputError: A value does not fit; the message names it.
    """
    hints = _hints(function)
    for name, value in arguments.items():
        if name in hints and not fits(value, hints[name]):
            shown = str(value) if len(str(value)) <= MAX_SHOWN else f"{str(value)[:MAX_SHOWN]}…"
            shown = "null" if value is None else shown
            raise InputError(f"{prefix}{name}={shown}: give {wanted(hints[name])}")


def _parts(key: str, value: object) -> list[tuple[str, Mapping]]:
    """List the mappings in a value, with their dotted names."""
    listed = enumerate(value) if isinstance(value, list) else []
    found = [(key, value), *((f"{key}[{index}]", item) for index, item in listed)]
    return [(place, part) for place, part in found if isinstance(part, Mapping)]


def _require_known(function: Callable, config: Mapping, prefix: str) -> None:
    """Raise InputError for keys that a target does not take."""
    if not _hints(function):
        return
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in config:
        if not name.startswith("_") and name not in parameters:
            raise InputError(
                f"{prefix}{name}: {function.__name__} has no such key; leave it out, or choose the "
                "experiment= that belongs to it"
            )


def _require_whole(function: Callable, config: Mapping, prefix: str) -> None:
    """Raise InputError when a `_partial_` target lacks an argument of a plain type."""
    hints = _hints(function)
    for parameter in inspect.signature(function).parameters.values() if hints else []:
        if parameter.default is not parameter.empty or parameter.name in config:
            continue
        annotation = hints[parameter.name]
        if any(choice in WORDS for choice in _choices(annotation)):
            raise InputError(f"{prefix}{parameter.name} is missing: give {wanted(annotation)}")


def fits(value: Any, annotation: Any) -> bool:
    """Return whether a plain value, or a mapping with a `_target_`, fits a type hint."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if len(_choices(annotation)) > 1:
        return any(fits(value, choice) for choice in _choices(annotation))
    if isinstance(value, Mapping) and "_target_" in value:
        return annotation not in WORDS  # its type is unknown before it is built
    if origin is typing.Literal:
        return value in arguments
    if origin is tuple and ... not in arguments:
        listed = isinstance(value, list) and len(value) == len(arguments)
        return listed and all(map(fits, value, arguments))
    if origin in (list, tuple, Sequence):
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value)
    if origin in (dict, Mapping) or annotation in (dict, Mapping):
        return isinstance(value, Mapping)
    if annotation in (int, float):
        return isinstance(value, (int, annotation)) and not isinstance(value, bool)
    if annotation is Path:
        return isinstance(value, str)
    return annotation in (object, Any) or (
        isinstance(annotation, type) and isinstance(value, annotation)
    )


def wanted(annotation: Any) -> str:
    """Describe a type hint in words."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if len(choices := _choices(annotation)) > 1:
        known = [choice for choice in choices if choice in WORDS or typing.get_origin(choice)]
        return " or ".join(dict.fromkeys(wanted(choice) for choice in known or choices))
    if origin is typing.Literal:
        return f"one of {', '.join(str(choice) for choice in arguments)}"
    if origin in (list, tuple, Sequence):
        return f"a list, each entry {wanted(arguments[0])}"
    if origin in (dict, Mapping) or annotation in (dict, Mapping):
        return "keys with values"
    return WORDS.get(annotation, "a group with a _target_")


def _choices(annotation: object) -> tuple:
    """List the members of a union; any other type hint alone."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _hints(function: Callable) -> dict[str, object]:
    """Read the type hints of a function's or class's parameters; none where they are unknown."""
    try:
        return typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except (NameError, TypeError, AttributeError):  # a built-in, or unknown names
        return {}
