"""The exception for bad input, and common checks that raise it."""

import contextlib
from collections.abc import Iterator, Sequence
from numbers import Real
from typing import TypeGuard

MAX_LAYERS = 1_000  # building more would take minutes


class InputError(ValueError):
    """Bad input; the message is one sentence with the file or key, its value and the remedy."""


@contextlib.contextmanager
def needs_extra(subject: str, extra: str) -> Iterator[None]:
    """Raise InputError if the block imports a package of an extra that is not installed.

    Args:
        subject: What needs the extra, such as "the page".
        extra: Name of the extra in pyproject.toml.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(
            f"{subject} needs {error.name}: pip install 'vc-lightning[{extra}]'"
        ) from error


def require_at_least(minimum: int, group: str, /, **values: object) -> None:
    """Check that values are integers of at least a minimum.

    Args:
        minimum: Smallest allowed value.
        group: Group of the keys, for the message; "" where they have none.
        values: Keys and values.

    Raises:
        InputError: A value is something else; the message names its key.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise InputError(f"{_key(group, name)}={value}: give an integer of at least {minimum}")


def require_within(low: float, high: float, group: str, /, **values: object) -> None:
    """Check that values are numbers with low ≤ value < high; see `require_at_least`."""
    for name, value in values.items():
        # Written so that NaN is refused.
        if not _is_number(value) or value < low or not value < high:
            key = _key(group, name)
            raise InputError(f"{key}={value}: give a number from {low} to below {high}")


def require_share(group: str, /, **values: object) -> None:
    """Check that values are numbers from 0 to 1; see `require_at_least`."""
    for name, value in values.items():
        # Written so that NaN is refused.
        if not _is_number(value) or value < 0 or not value <= 1:
            raise InputError(f"{_key(group, name)}={value}: give a number from 0 to 1")


def require_layers(group: str, /, **values: object) -> None:
    """Check numbers of layers: 1 to `MAX_LAYERS`; see `require_at_least`."""
    require_at_least(1, group, **values)
    require_within(1, MAX_LAYERS + 1, group, **values)


def require_one_of(choices: Sequence[str], group: str, /, **values: object) -> None:
    """Check that values are among the choices; see `require_at_least`."""
    for name, value in values.items():
        if value not in choices:
            raise InputError(f"{_key(group, name)}={value}: choose one of {', '.join(choices)}")


def require_flag(name: str, value: object) -> None:
    """Raise InputError unless a value is true or false; Python would take any word as true."""
    if not isinstance(value, bool):
        raise InputError(f"{name}={value}: give true or false")


def require_seed(name: str, value: object) -> None:
    """Raise InputError unless a value is a seed that NumPy and PyTorch accept."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise InputError(f"{name}={value}: give an integer from 0 to below 2^32")


def _is_number(value: object) -> TypeGuard[Real]:
    return isinstance(value, Real) and not isinstance(value, bool)


def _key(group: str, name: str) -> str:
    return f"{group}.{name}".lstrip(".")
