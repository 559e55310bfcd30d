"""Lists of recordings with their speakers and splits."""

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vc_lightning.audio.files import containers
from vc_lightning.audio.files.io import AUDIO_SUFFIXES, duration, split_address
from vc_lightning.common.errors import InputError
from vc_lightning.common.tables import table_rows
from vc_lightning.data.features.files import Segment

log = logging.getLogger(__name__)

SPLITS = ("", "train", "val", "test")


@dataclass(frozen=True)
class AudioFile:
    """An audio file, usable or not.

    Attributes:
        path: The audio file, or an address inside a file; see `audio.containers`.
        speaker: Name of the speaker.
        split: "train", "val", "test", or "" where the manifest names none.
    """

    path: Path
    speaker: str
    split: str = ""


@dataclass(frozen=True)
class Utterance:
    """A recording whose features are computed, or a segment of a long one.

    Attributes:
        path: The audio file.
        speaker: Name of the speaker.
        split: See `AudioFile`.
        segment: Its frames in the feature cache.
    """

    path: Path
    speaker: str
    split: str
    segment: Segment

    @property
    def n_frames(self) -> int:
        """Number of mel frames."""
        return self.segment.n_frames


def find_audio_files(root: Path) -> list[AudioFile]:
    """List the audio files below a folder.

    The speaker is the folder that holds the file; in the folder itself, each file is a speaker.

    Raises:
        InputError: The folder is missing or holds no audio.
    """
    if not root.is_dir():
        raise InputError(f"data.dir={root}: there is no such folder")
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file())
    if not files:
        raise InputError(
            f"data.dir={root}: holds no audio (supported: {' '.join(sorted(AUDIO_SUFFIXES))})"
        )
    return [
        AudioFile(path, path.stem if path.parent == root else str(path.parent.relative_to(root)))
        for path in files
    ]


def read_manifest(path: Path, root: Path | None) -> list[AudioFile]:
    """Read a tab-separated table with the columns path, speaker and (optional) split.

    Recordings of the split `test` are left out: nothing may be trained or chosen on them.

    Args:
        path: The table.
        root: Folder that its paths are relative to; None is the table's own folder.

    Raises:
        InputError: The table is unreadable, lacks columns, or names an unknown split.
    """
    rows = table_rows(path, "data.manifest", {"path", "speaker"})
    folder = root or path.parent
    recordings = [
        AudioFile(path_in(folder, row["path"]), row["speaker"], row.get("split") or "")
        for row in rows
        if row["path"] and row["speaker"]
    ]
    for recording in recordings:
        if recording.split not in SPLITS:
            raise InputError(
                f"data.manifest={path}: {recording.path} has the split {recording.split}; choose "
                "train, val or test"
            )
    if len(recordings) < len(rows):
        log.warning("%d rows of %s lack a path or speaker", len(rows) - len(recordings), path)
    kept = [recording for recording in recordings if recording.split != "test"]
    if not kept:
        raise InputError(
            f"data.manifest={path}: none of its {len(rows)} rows has a path, a speaker and a split "
            "other than test"
        )
    return kept


def path_in(folder: Path, name: str) -> Path:
    """Return the path that a manifest in a folder names; an address on the Hub stays as it is."""
    return Path(name) if containers.is_on_hub(name) else folder / name


def is_file(path: Path) -> bool:
    """Return whether a path, or the file of an address like `film.mp4?stream=1`, exists.

    A file on the Hub counts as existing: its reader reports what is missing.
    """
    try:
        return containers.is_on_hub(path) or split_address(path)[0].is_file()
    except OSError:  # a folder that may not be entered, a name that is too long
        return False


def limit_minutes(recordings: Sequence[AudioFile], minutes: float) -> list[AudioFile]:
    """Keep each speaker's first files, at least one, until together they last `minutes`."""
    seconds: dict[str, float] = defaultdict(float)
    kept = []
    for recording in recordings:
        if seconds[recording.speaker] >= 60 * minutes:
            continue
        kept.append(recording)
        try:
            seconds[recording.speaker] += duration(recording.path) or 0.0
        except InputError:
            continue  # the computation of its features reports what is wrong
    return kept


def split_utterances(
    utterances: Sequence[Utterance],
    val_fraction: float,
    val_speakers: int | str | Sequence[str | int],
    seed: int,
) -> tuple[list[Utterance], list[Utterance]]:
    """Split utterances into training and validation.

    The validation set is the manifest's split `val` if there is one. Otherwise whole speakers are
    held out, then a share of the other utterances; every other speaker keeps at least one.

    Args:
        utterances: The utterances.
        val_fraction: Share of the other speakers' utterances to hold out.
        val_speakers: Speakers to hold out: their names, or how many.
        seed: Seed of the choice.

    Returns:
        Training and validation utterances.

    Raises:
        InputError: A speaker is unknown, or none is left for training.
    """
    if val := [utterance for utterance in utterances if utterance.split == "val"]:
        return [utterance for utterance in utterances if utterance.split != "val"], val
    rng = np.random.default_rng(seed)
    speakers = sorted({utterance.speaker for utterance in utterances})
    if isinstance(val_speakers, str):
        val_speakers = [val_speakers]
    if isinstance(val_speakers, int):
        if val_speakers and val_speakers >= len(speakers):
            raise InputError(
                f"data.val_speakers={val_speakers} leaves none of {len(speakers)} speakers to train"
            )
        held_out = set(rng.permutation(speakers)[:val_speakers].tolist())
    else:
        held_out = {str(name) for name in val_speakers}  # a name may be a number
        if unknown := held_out - set(speakers):
            raise InputError(f"data.val_speakers: there is no speaker {sorted(unknown)[0]}")
    others = [u for u in utterances if u.speaker not in held_out]
    left = Counter(utterance.speaker for utterance in others)
    wanted = round(val_fraction * len(others))
    chosen: set[int] = set()
    for index in rng.permutation(len(others)):
        speaker = others[index].speaker
        if len(chosen) < wanted and left[speaker] > 1:
            left[speaker] -= 1
            chosen.add(index)
    train = [u for i, u in enumerate(others) if i not in chosen]
    val = [u for u in utterances if u.speaker in held_out]
    return train, val + [others[index] for index in sorted(chosen)]
