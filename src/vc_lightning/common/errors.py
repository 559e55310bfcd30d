"""The one exception that a person is meant to read, and the checks that raise it most."""

from collections.abc import Sequence
from numbers import Real

MAX_LAYERS = 1_000  # building more takes longer than anyone waits for a message


class InputError(ValueError):
    """Bad input: one sentence that names the file or key, its value and the remedy."""


def require_at_least(minimum: int, group: str, /, **values: object) -> None:
    """Raises InputError naming the first of a group's values that is not an integer ≥ minimum.

    Args: group, "" for keys that are in none.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise InputError(f"{_key(group, name)}={value}: give an integer of at least {minimum}")


def require_within(low: float, high: float, group: str, /, **values: object) -> None:
    """Raises InputError naming the first of a group's values that is not in low ≤ value < high."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not low <= value < high:
            key = _key(group, name)
            raise InputError(f"{key}={value}: give a number from {low} to below {high}")


def require_layers(group: str, /, **values: object) -> None:
    """Raises InputError naming the first of a group's numbers of layers that is not sensible."""
    require_at_least(1, group, **values)
    require_within(1, MAX_LAYERS + 1, group, **values)


def require_one_of(choices: Sequence[str], group: str, /, **values: object) -> None:
    """Raises InputError naming the first of a group's values that is none of some words."""
    for name, value in values.items():
        if value not in choices:
            raise InputError(f"{_key(group, name)}={value}: is none of {', '.join(choices)}")


def require_flag(name: str, value: object) -> None:
    """Raises InputError unless value is true or false: any word would count as true."""
    if not isinstance(value, bool):
        raise InputError(f"{name}={value}: give true or false")


def require_seed(name: str, value: object) -> None:
    """Raises InputError unless value is a seed that NumPy and PyTorch take."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise InputError(f"{name}={value}: give an integer from 0 to below 2^32")


def _key(group: str, name: str) -> str:
    return f"{group}.{name}".lstrip(".")
