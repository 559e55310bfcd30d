"""Whether what a configuration says is of the types that those ask for who are given it."""

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from pydoc import locate

from vc_lightning.common.errors import InputError

MAX_SHOWN = 80  # characters of a value in a sentence
WORDS = {  # what to give for an annotation
    int: "an integer",
    float: "a number",
    str: "text",
    Path: "a path",
    bool: "true or false",
    type(None): "null",
}


def require_fitting(config: Mapping, prefix: str = "") -> None:
    """Compares the values of a configuration with the annotations of what they are given to.

    Without this a wrong type is noticed wherever it is first used, hours later or not at all.

    Args:
        config: plain values; each mapping with a `_target_` is the arguments of that class or
            function. prefix: the dotted name of it, with a dot at its end.
    Raises: InputError naming the first key whose value does not fit.
    """
    target = config.get("_target_")
    if isinstance(target, str) and (named := locate(target)) is not None:
        require_arguments(named, config, prefix)
    for name, value in config.items():
        for place, part in _parts(f"{prefix}{name}", value):
            require_fitting(part, f"{place}.")
    if config.get("_partial_"):
        _require_whole(config, prefix)


def require_arguments(function: Callable, arguments: Mapping, prefix: str = "") -> None:
    """Raises InputError naming the first argument that does not fit a function's or class's."""
    hints = _hints(function)
    for name, value in arguments.items():
        if name in hints and not fits(value, hints[name]):
            shown = str(value) if len(str(value)) <= MAX_SHOWN else f"{str(value)[:MAX_SHOWN]}…"
            shown = "null" if value is None else shown
            raise InputError(f"{prefix}{name}={shown}: give {wanted(hints[name])}")


def _parts(key: str, value: object) -> list[tuple[str, Mapping]]:
    """The configurations within a value, and their names."""
    listed = enumerate(value) if isinstance(value, list) else []
    found = [(key, value), *((f"{key}[{index}]", item) for index, item in listed)]
    return [(place, part) for place, part in found if isinstance(part, Mapping)]


def _require_whole(config: Mapping, prefix: str) -> None:
    """Raises InputError when a function that is called later would lack a plain argument."""
    target = locate(config["_target_"])
    hints = _hints(target)
    for parameter in inspect.signature(target).parameters.values() if hints else []:
        if parameter.default is not parameter.empty or parameter.name in config:
            continue
        annotation = hints[parameter.name]
        if any(choice in WORDS for choice in _choices(annotation)):
            raise InputError(f"{prefix}{parameter.name} is missing: give {wanted(annotation)}")


def fits(value: object, annotation: object) -> bool:
    """Whether a plain value, or a mapping with a `_target_`, can be what an annotation says."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if len(_choices(annotation)) > 1:
        return any(fits(value, choice) for choice in _choices(annotation))
    if isinstance(value, Mapping) and "_target_" in value:
        return annotation not in WORDS  # what it makes is not known before it is made
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
    return annotation in (object, typing.Any) or (
        isinstance(annotation, type) and isinstance(value, annotation)
    )


def wanted(annotation: object) -> str:
    """In words what to give for an annotation."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if len(choices := _choices(annotation)) > 1:
        known = [choice for choice in choices if choice in WORDS or typing.get_origin(choice)]
        return " or ".join(dict.fromkeys(wanted(choice) for choice in known or choices))
    if origin is typing.Literal:
        return f"one of {', '.join(str(choice) for choice in arguments)}"
    if origin in (list, tuple, Sequence):
        return f"a list, each of it {wanted(arguments[0])}"
    if origin in (dict, Mapping) or annotation in (dict, Mapping):
        return "keys with values"
    return WORDS.get(annotation, "a group with a _target_")


def _choices(annotation: object) -> tuple:
    """The members of a union; of anything else itself."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _hints(function: Callable) -> dict[str, object]:
    """Annotations of the parameters of a function or class; none where they are not known."""
    try:
        return typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    except (NameError, TypeError, AttributeError):  # built in, or of names that are not imported
        return {}
