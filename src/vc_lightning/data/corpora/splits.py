"""Splits of a corpus that keep speakers apart."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vc_lightning.common.errors import InputError
from vc_lightning.data.corpora.recordings import Recording

MIN_SPEAKERS = 10  # with fewer, a share of the speakers holds out none


def with_splits(
    recordings: Sequence[Recording], val_speakers: float, test_speakers: float, seed: int
) -> tuple[list[Recording], str]:
    """Give every recording a split; all recordings of a speaker get the same one.

    The corpus's own splits are kept if they share no speaker. Of a split that it has not, whole
    speakers are drawn from those to train on.

    Args:
        recordings: The recordings.
        val_speakers: Speakers to hold out for validation: an integer is their number, a fraction
            below 1 their share.
        test_speakers: Speakers to hold out for tests, given alike.
        seed: Seed of the draw.

    Returns:
        The recordings in their order, and a sentence that says how they were split.

    Raises:
        InputError: No speaker would be left to train on.
    """
    by_speaker: dict[str, set[str]] = defaultdict(set)
    for recording in recordings:
        by_speaker[recording.speaker] |= {recording.split} - {""}
    n_shared = sum(len(splits) > 1 for splits in by_speaker.values())
    known = {name: "" if n_shared else max(own, default="") for name, own in by_speaker.items()}
    wanted = {"val": val_speakers, "test": test_speakers}
    has_own = [split for split in wanted if split in known.values()]
    pool = sorted(name for name, split in known.items() if split not in wanted)
    counts = {split: _count(wanted[split], len(pool)) for split in wanted if split not in has_own}
    n_drawn = sum(counts.values())
    if pool and n_drawn and n_drawn >= len(pool):
        raise InputError(
            f"val_speakers={val_speakers}, test_speakers={test_speakers}: leave none of "
            f"{len(pool)} speakers to train on; give smaller numbers"
        )
    drawn = np.random.default_rng(seed).permutation(pool).tolist() if pool else []
    if has_own or n_drawn:
        known |= dict.fromkeys(pool, "train")
    for split, count in counts.items():
        known |= dict.fromkeys(drawn[:count], split)
        drawn = drawn[count:]
    if not has_own and not n_drawn:
        known = dict.fromkeys(known, "")
    given = [replace(recording, split=known[recording.speaker]) for recording in recordings]
    return given, _sentence(has_own, counts if pool else {}, len(pool), n_shared)


def _sentence(own: Sequence[str], counts: dict[str, int], n_speakers: int, n_shared: int) -> str:
    """Say how a corpus was split."""
    parts = []
    if n_shared:
        parts.append(f"the corpus's own are not used, because {n_shared} speakers are in several")
    if own:
        parts.append(f"{' and '.join(own)}: the corpus's own")
    parts += [f"{split}: {count} speakers, drawn" for split, count in counts.items() if count]
    if counts and not any(counts.values()):
        parts.append(
            f"{n_speakers} speakers are too few to hold some out; training holds out recordings "
            "instead (data.val_fraction)"
        )
    return "; ".join(parts)


def _count(share: float, n_speakers: int) -> int:
    """Turn a share of the speakers into their number; an integer is a number already."""
    if isinstance(share, int):
        return share
    if n_speakers < MIN_SPEAKERS or not share:
        return 0
    return max(1, round(share * n_speakers))
