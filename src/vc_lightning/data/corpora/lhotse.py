"""Manifests of the package lhotse: recordings with supervisions, or cuts.

Its recipes write `NAME_recordings_PART.jsonl.gz` and `NAME_supervisions_PART.jsonl.gz`; cuts are
`…cuts….jsonl.gz`. A recording is taken whole, if all its supervisions name one speaker.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vc_lightning.common.errors import InputError, needs_extra
from vc_lightning.data.corpora.recordings import LeftOut, Listed, Recording, sex, split_of

if TYPE_CHECKING:
    from lhotse import Recording as LhotseRecording
    from lhotse import SupervisionSegment

Pairs = Iterator[tuple["LhotseRecording", list["SupervisionSegment"]]]


def read(root: Path, licence: str) -> Listed:
    """List the recordings of all manifests in a folder.

    Args:
        root: Folder of the manifests; relative paths in them are relative to it, or to the folder
            where this program runs, as lhotse takes them.
        licence: Licence of all recordings, or "".

    Raises:
        InputError: The folder holds no manifests, or one cannot be read.
    """
    root = Path(root)
    with needs_extra("corpus=lhotse", "corpora"):
        import lhotse  # noqa: F401
    supervisions = sorted(root.glob("*supervisions*.json*"))
    cuts = sorted(root.glob("*cuts*.json*"))
    if not supervisions and not cuts:
        raise InputError(
            f"root={root}: holds no manifests of lhotse, named *supervisions*.jsonl.gz beside "
            "*recordings*.jsonl.gz, or *cuts*.jsonl.gz"
        )
    for path in supervisions:
        yield from _listed(_pairs(path), root, split_of(path.name), licence)
    for path in cuts:
        yield from _listed(_pairs_of_cuts(path), root, split_of(path.name), licence)


def _pairs(path: Path) -> Pairs:
    """Read recordings with their supervisions."""
    from lhotse import RecordingSet, SupervisionSet

    recordings = path.with_name(path.name.replace("supervisions", "recordings"))
    by_recording: dict[str, list[SupervisionSegment]] = defaultdict(list)
    for supervision in _items(SupervisionSet.from_file, path):
        by_recording[supervision.recording_id].append(supervision)
    for recording in _items(RecordingSet.from_file, recordings):
        yield recording, by_recording[recording.id]


def _pairs_of_cuts(path: Path) -> Pairs:
    """Read the recordings of cuts, each once, with the supervisions of all its cuts."""
    from lhotse import CutSet

    recordings = {}
    by_recording: dict[str, list[SupervisionSegment]] = defaultdict(list)
    for cut in _items(CutSet.from_file, path):
        recording = getattr(cut, "recording", None)  # mixed cuts have none
        if recording is not None:
            recordings[recording.id] = recording
            by_recording[recording.id] += cut.supervisions
    for name, recording in recordings.items():
        yield recording, by_recording[name]


def _items(read_file: Callable[[Path], Iterable], path: Path) -> Iterator:
    try:
        yield from read_file(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: cannot be read as a manifest of lhotse ({reason})") from error


def _listed(pairs: Pairs, root: Path, split: str, licence: str) -> Listed:
    for recording, supervisions in pairs:
        speakers = {s.speaker for s in supervisions if s.speaker}
        sources = [s.source for s in recording.sources if s.type == "file"]
        path = Path(sources[0]) if len(sources) == 1 else Path()
        if not path.exists():
            path = root / path
        if len(recording.sources) != 1 or len(sources) != 1:
            yield LeftOut("are not one file each (URLs, commands, several channels)", recording.id)
        elif not speakers:
            yield LeftOut("have no supervision that names a speaker", recording.id)
        elif len(speakers) > 1:
            yield LeftOut("hold several speakers", recording.id)
        elif not path.is_file():
            yield LeftOut("are files that do not exist", str(sources[0]))
        else:
            first = supervisions[0]
            spoken = sorted(supervisions, key=lambda supervision: supervision.start)
            text = " ".join(s.text for s in spoken if s.text)
            lang = _code(first.language)
            yield Recording(
                path,
                speakers.pop(),
                split,
                lang,
                sex(first.gender),
                text,
                licence,
                recording.duration,
            )


def _code(language: str | None) -> str:
    """Return the code of a language; lhotse's recipes of English corpora write "English"."""
    return "en" if language == "English" else language or ""
