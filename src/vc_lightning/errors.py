"""The one exception that a person is meant to read."""


class InputError(ValueError):
    """Bad input: one sentence that names the file or key, its value and the remedy."""
