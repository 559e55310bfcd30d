"""What scorers need: packages of the extra `eval`, and weights in the user's cache."""

import importlib.util

SAMPLE_RATE = 16_000  # Hz, of the input of every scorer
INSTALL = "pip install 'vc-lightning[eval]'"


class MissingScorerError(Exception):
    """Packages or weights of a scorer are missing; the message says how to get them."""


def require_packages(scorer: str, *modules: str) -> None:
    """Check that modules are installed.

    Args:
        scorer: Name of the scorer that needs them.
        *modules: Names of the modules.

    Raises:
        MissingScorerError: A module is not installed.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingScorerError(f"{scorer}: {', '.join(missing)} not installed; {INSTALL}")
