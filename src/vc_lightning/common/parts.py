"""Parts of a long job, which several processes or machines work on: `part=3/8`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from vc_lightning.common.errors import InputError

MERGE = "merge"  # in place of a part: only merge the results of the parts
FOLDER = "parts"  # subfolder of the output, for the results of each part

Item = TypeVar("Item")


@dataclass(frozen=True)
class Part:
    """One of the parts of a job.

    Every part works on the same list of items and takes its own share of it, so no item belongs
    to two parts and none is left out.

    Attributes:
        number: Number of the part, from 1 to `count`.
        count: Number of parts.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, value: object) -> "Part":
        """Read the value of `part=`.

        Args:
            value: Text such as "3/8".

        Raises:
            InputError: The value is not a part.
        """
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", str(value))
        number, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= count:
            raise InputError(
                f"part={value}: give the part's number and how many parts there are, from 1/8 to "
                "8/8 for example"
            )
        return cls(number, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def stem(self) -> str:
        """The part in the name of a file, such as 3_of_8."""
        return f"{self.number}_of_{self.count}"

    def block(self, items: Sequence[Item]) -> Sequence[Item]:
        """Take consecutive items: neighbours that share work stay together."""
        first, last = (len(items) * n // self.count for n in (self.number - 1, self.number))
        return items[first:last]

    def turns(self, items: Sequence[Item]) -> Sequence[Item]:
        """Take every count-th item: long and short ones spread evenly over the parts."""
        return items[self.number - 1 :: self.count]
