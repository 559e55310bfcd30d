"""Shares of a long job."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vc_lightning.common.errors import InputError
from vc_lightning.common.parts import Part


@given(st.integers(0, 40), st.integers(1, 12))
def test_parts_partition_items(n_items, count):
    items = list(range(n_items))
    parts = [Part(number, count) for number in range(1, count + 1)]
    assert [item for part in parts for item in part.block(items)] == items
    assert sorted(item for part in parts for item in part.turns(items)) == items
    for share in (Part.block, Part.turns):
        sizes = [len(share(part, items)) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_parses_part():
    assert Part.parse("3/8") == Part(3, 8)
    assert (str(Part(3, 8)), Part(3, 8).stem) == ("3/8", "3_of_8")


@pytest.mark.parametrize(
    "value",
    ["0/8", "9/8", "x", 3, 0.5, True, "-1/8", "1/0", "1/8/2", "1 / 8", "¹/8", "1/" + "9" * 40],
)
def test_refuses_invalid_part(value):
    with pytest.raises(InputError, match=rf"^part={value}: give the part's number and how many"):
        Part.parse(value)
