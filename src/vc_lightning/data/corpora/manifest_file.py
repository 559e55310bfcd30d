"""Make the manifest of a corpus, and say what is in it and what was left out."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from vc_lightning.audio.files import containers
from vc_lightning.audio.files.io import duration
from vc_lightning.common.errors import InputError, require_at_least, require_seed, require_within
from vc_lightning.common.files import atomic_path
from vc_lightning.data.corpora.recordings import LeftOut, Recording
from vc_lightning.data.corpora.splits import with_splits

COLUMNS = ("path", "speaker", "split", "seconds", "lang", "sex", "text", "licence")
N_THREADS = 8  # that read headers; most of the time they wait for the disk
MAX_SHOWN = 10  # languages and licences in the summary


@dataclass(frozen=True)
class Manifest:
    """The recordings of a corpus, chosen and split.

    Attributes:
        recordings: The recordings.
        left_out: What was left out, one entry for each reason.
        how_split: A sentence that says how they were split.
    """

    recordings: Sequence[Recording]
    left_out: Sequence[LeftOut]
    how_split: str

    def write(self, path: Path) -> None:
        """Write a table, whole or not at all; paths below its folder are relative to it.

        Raises:
            InputError: It cannot be written.
        """
        folder = path.resolve().parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with (
                atomic_path(path) as temporary,
                temporary.open("w", encoding="utf-8", newline="\n") as file,
            ):
                file.write("\t".join(COLUMNS) + "\n")
                for recording in self.recordings:
                    file.write("\t".join(_cells(recording, folder)) + "\n")
        except OSError as error:
            raise InputError(
                f"output={path}: cannot be written ({error.strerror}); name another file"
            ) from error

    def summary(self) -> list[str]:
        """Describe the content in a few lines: splits, languages, licences, and what is missing."""
        lines = []
        for split in ("train", "val", "test", ""):
            own = [recording for recording in self.recordings if recording.split == split]
            if own:
                lines.append(f"{split or 'no split'}: {_sizes(own)}")
        for what, values in (
            ("languages", Counter(r.lang or "unknown" for r in self.recordings)),
            ("licences", Counter(r.licence or "unknown" for r in self.recordings)),
        ):
            shown = ", ".join(f"{value} ({n})" for value, n in values.most_common(MAX_SHOWN))
            lines.append(f"{what}: {shown}" + ", …" * (len(values) > MAX_SHOWN))
        n_texts = sum(bool(recording.text) for recording in self.recordings)
        lines.append(f"texts: {n_texts} of {len(self.recordings)} recordings have one")
        lines.append(f"splits: {self.how_split}")
        for left in self.left_out:
            example = f", such as {left.example}" if left.example else ""
            lines.append(f"left out: {left.count} that {left.reason}{example}")
        return lines


def make_manifest(
    listed: Iterable[Recording | LeftOut],
    *,
    min_seconds: float,
    max_per_speaker: int | None,
    val_speakers: float,
    test_speakers: float,
    seed: int,
) -> Manifest:
    """Choose recordings of a corpus, measure and split them.

    Args:
        listed: What the reader of the corpus yields.
        min_seconds: Shorter recordings are left out.
        max_per_speaker: Recordings of each speaker at most, the first ones; None takes all.
        val_speakers: Speakers to hold out for validation, see `with_splits`.
        test_speakers: Speakers to hold out for tests.
        seed: Seed of the splits.

    Raises:
        InputError: A value is out of its range, or no recording is left.
    """
    require_within(0, 3600, "", min_seconds=min_seconds)
    if max_per_speaker is not None:
        require_at_least(1, "", max_per_speaker=max_per_speaker)
    for name, share in {"val_speakers": val_speakers, "test_speakers": test_speakers}.items():
        if not isinstance(share, int):
            require_within(0, 1, "", **{name: share})
        require_within(0, float("inf"), "", **{name: share})
    require_seed("seed", seed)
    recordings, left_out = [], []
    per_speaker: dict[str, int] = defaultdict(int)
    for item in tqdm(listed, desc="listing", unit="file", dynamic_ncols=True):
        if isinstance(item, LeftOut):
            left_out.append(item)
        elif any(mark in str(item.path) for mark in "\t\r\n"):
            left_out.append(LeftOut("have a tab or line break in their name", repr(item.path.name)))
        elif max_per_speaker is not None and per_speaker[item.speaker] >= max_per_speaker:
            left_out.append(LeftOut(f"exceed max_per_speaker={max_per_speaker}", item.path.name))
        else:
            per_speaker[item.speaker] += 1
            recordings.append(item)
    measured, unusable = _measured(recordings, min_seconds)
    left_out = _merged([*left_out, *unusable])
    if not measured:
        reasons = "; ".join(f"{left.count} {left.reason}" for left in left_out)
        raise InputError(f"no recording is left ({reasons or 'the corpus is empty'})")
    split, how = with_splits(measured, val_speakers, test_speakers, seed)
    return Manifest(split, left_out, how)


def _measured(
    recordings: Sequence[Recording], min_seconds: float
) -> tuple[list[Recording], list[LeftOut]]:
    """Measure the recordings by their headers, and leave out damaged and short ones."""
    kept: list[Recording] = []
    left_out: list[LeftOut] = []
    with ThreadPoolExecutor(N_THREADS) as pool:
        results = pool.map(_length, recordings)
        shown = tqdm(results, "measuring", len(recordings), unit="file", dynamic_ncols=True)
        for recording, length in zip(recordings, shown, strict=True):
            if isinstance(length, str):
                left_out.append(LeftOut("cannot be read", length))
            elif length is not None and length < min_seconds:
                left_out.append(LeftOut(f"are shorter than {min_seconds} s", recording.path.name))
            else:
                kept.append(replace(recording, seconds=length))
    return kept, left_out


def _length(recording: Recording) -> float | str | None:
    """Return a recording's seconds, None where they stay unknown, or why it cannot be read."""
    if recording.seconds is not None:
        return recording.seconds
    if containers.parse(recording.path) is not None:
        return None  # to measure it would read its sound
    try:
        return duration(recording.path)
    except InputError as error:
        return str(error)


def _merged(left_out: Iterable[LeftOut]) -> list[LeftOut]:
    """Join what was left out for the same reason, the most frequent reason first."""
    joined: dict[str, LeftOut] = {}
    for item in left_out:
        known = joined.get(item.reason)
        joined[item.reason] = replace(known, count=known.count + item.count) if known else item
    return sorted(joined.values(), key=lambda item: -item.count)


def _cells(recording: Recording, folder: Path) -> list[str]:
    values = vars(recording) | {"path": _written_path(recording.path, folder)}
    values["seconds"] = "" if recording.seconds is None else f"{recording.seconds:.2f}"
    return [values["path"], *(" ".join(values[name].split()) for name in COLUMNS[1:])]


def _written_path(path: Path, folder: Path) -> str:
    if containers.is_on_hub(path):
        return containers.with_two_slashes(path)
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - links stay as the user named them
    resolved = absolute.parent.resolve() / absolute.name
    return str(resolved.relative_to(folder) if resolved.is_relative_to(folder) else absolute)


def _sizes(recordings: Sequence[Recording]) -> str:
    speakers = {recording.speaker for recording in recordings}
    hours = sum(recording.seconds or 0 for recording in recordings) / 3600
    n_unknown = sum(recording.seconds is None for recording in recordings)
    text = f"{len(recordings)} recordings of {len(speakers)} speakers"
    if n_unknown < len(recordings):
        text += f", {hours:.2f} hours"
    return text + (f", {n_unknown} of unknown length" if n_unknown else "")
