"""Work on recordings in parallel processes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader

from vc_lightning.common.errors import InputError

Result = TypeVar("Result")


def in_processes(
    work: Callable[[Any], Result], items: Sequence[Any], num_workers: int
) -> Iterator[Result]:
    """Do the same with every item, and yield the results in order.

    Args:
        work: What is done with an item.
        items: The items.
        num_workers: Number of processes; 0 works in this one.

    Raises:
        InputError: A process died.
    """
    loader: DataLoader = DataLoader(
        items,  # type: ignore[arg-type]  # a sequence will do
        batch_size=None,
        collate_fn=work,
        num_workers=min(num_workers, len(items)),
        generator=torch.Generator(),  # leaves the training run's random numbers alone
    )
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            f"a process that computed features died ({error}): it was killed or ran out of "
            "memory; lower data.num_workers and start again, finished features are kept"
        ) from error
