"""Compute the features of many recordings in parallel processes."""

import os
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from vc_lightning.audio.files import containers
from vc_lightning.audio.files.io import split_address
from vc_lightning.common.errors import InputError

RECORDINGS_AT_ONCE = 8  # in one batch of the speaker encoder
ROWS_AT_ONCE = 100  # of a Parquet file: a row group of public data sets has about as many


def compute_all(
    compute: Callable[[list[Path]], dict[Path, str]],
    paths: list[Path],
    num_workers: int,
    show_progress: bool,
) -> dict[Path, str]:
    """Compute the features of recordings, with a progress bar.

    Args:
        compute: Computes the features of a few recordings, see `FeatureCache.compute`.
        paths: The recordings.
        num_workers: Number of processes; 0 computes in this one.
        show_progress: Whether to show the progress bar.

    Returns:
        Why each recording is unusable; "" for a usable one.

    Raises:
        InputError: A process died.
    """
    batches = _batches(paths, num_workers)
    loader: DataLoader = DataLoader(
        batches,  # type: ignore[arg-type]  # a list will do
        batch_size=None,
        collate_fn=compute,
        num_workers=min(num_workers, len(batches)),
        generator=torch.Generator(),  # leaves the training's random numbers alone
    )
    reasons: dict[Path, str] = {}
    progress = tqdm(
        total=len(paths),
        desc="features",
        unit="file",
        dynamic_ncols=True,
        disable=not show_progress,
    )
    try:
        with progress:
            for of_batch in loader:
                reasons |= of_batch
                progress.update(len(of_batch))
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            f"a process that computed features died ({error}): it was killed or ran out of "
            "memory; lower data.num_workers and start again, finished features are kept"
        ) from error
    return reasons


def _batches(paths: list[Path], num_workers: int) -> list[list[Path]]:
    """Divide recordings into batches, in random order.

    So programs that prepare the same folder at once rarely compute the same recording; each skips
    those that another one has finished. Recordings inside one file stay together and in order,
    because they are read by the row group.
    """
    inside: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        if containers.parse(path) is not None:
            inside[split_address(path)[0]].append(path)
    files = [path for path in paths if containers.parse(path) is None]
    rng = random.Random(os.urandom(8))
    rng.shuffle(files)
    size = max(1, min(RECORDINGS_AT_ONCE, len(files) // (4 * max(1, num_workers))))
    batches = [files[i : i + size] for i in range(0, len(files), size)]
    for together in rng.sample(list(inside.values()), len(inside)):
        batches += [together[i : i + ROWS_AT_ONCE] for i in range(0, len(together), ROWS_AT_ONCE)]
    return batches
