"""What a check of a data set finds."""

from dataclasses import dataclass

SERIOUS, WARNING, HINT = SEVERITIES = ("serious", "warning", "hint")


@dataclass(frozen=True)
class Finding:
    """A problem and its remedy.

    Attributes:
        severity: One of `SEVERITIES`.
        problem: One sentence.
        remedy: What to do about it, one sentence.
    """

    severity: str
    problem: str
    remedy: str
