"""List the pairs of an evaluation: which recording is converted to which target speaker."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from vc_lightning.common.errors import InputError
from vc_lightning.common.tables import SEPARATOR, table_rows
from vc_lightning.data.manifest import find_audio_files, is_file, path_in

N_SOURCES = 3  # recordings per speaker that take turns as source
MIN_SECONDS = 2.0  # of a manifest's recordings; shorter ones are often single words
SEXES = ("F", "M")
DOMAIN = "domain"  # kind of the groups that are manifests and tables
PAIR_COLUMNS = (  # every other column of a table of pairs is a group
    *("source", "target", "source_reference", "parallel", "language"),
    *("source_speaker", "target_speaker", "text"),
    "source_other",  # name of source_reference until version 0.3.0
)


@dataclass(frozen=True)
class Speaker:
    """A speaker with recordings.

    Attributes:
        name: Name of the speaker.
        recordings: The recordings.
        seen: Whether the network was trained on this speaker; None where that is unknown.
        sex: "F", "M" or "".
        language: Language code such as "en", or "".
        person: Name of the person, who may be several speakers of a corpus, or "".
        texts: Recordings by their texts, where these are known.
    """

    name: str
    recordings: tuple[Path, ...]
    seen: bool | None = None
    sex: str = ""
    language: str = ""
    person: str = ""
    texts: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """One conversion to score.

    Attributes:
        source: The recording to convert.
        voice: Recordings of the target speaker whose mean embedding is the target voice.
        target_reference: Recording of the target speaker to compare with, not in `voice` where
            there is another.
        source_reference: Recording of the source speaker to compare with, another than `source`
            where there is one.
        source_speaker: Name of the source speaker.
        target_speaker: Name of the target speaker.
        language: Language code of the source, or "" where it is unknown.
        groups: Groups with means of their own, such as {"gender": "cross gender"}.
        parallel: Recording of the target speaker with the text of the source, or None.
        text: Text of the source, or "" where it is unknown.
    """

    source: Path
    voice: tuple[Path, ...]
    target_reference: Path
    source_reference: Path
    source_speaker: str
    target_speaker: str
    language: str = ""
    groups: dict[str, str] = field(default_factory=dict)
    parallel: Path | None = None
    text: str = ""

    @property
    def domain(self) -> str:
        """Name of the pair's manifest or table; "" where there is one only."""
        return self.groups.get(DOMAIN, "")


def from_manifest(
    path: Path, root: Path | None, split: str, n_pairs: int, n_targets: int
) -> list[Pair]:
    """Choose pairs of a manifest's speakers; the choice is deterministic.

    The categories are: within the split (unseen → unseen), from the split to the split train
    (unseen → seen), within train (seen → seen), and between languages.

    Args:
        path: The manifest.
        root: Folder that its paths are relative to; None is the manifest's own folder.
        split: Name of the split.
        n_pairs: Largest number of pairs of each category.
        n_targets: Number of recordings per voice.

    Raises:
        InputError: Fewer than two speakers of the split have enough recordings.
    """
    wanted = n_targets + 2
    speakers = {name: speakers_of(path, root, name) for name in dict.fromkeys((split, "train"))}
    able = {name: [s for s in all if len(s.recordings) >= wanted] for name, all in speakers.items()}
    if len(able[split]) < 2:
        raise InputError(
            f"data.manifest={path}: {len(able[split])} of {len(speakers[split])} speakers of the "
            f"split {split} have the {wanted} recordings of at least {MIN_SECONDS:g} s that "
            f"n_targets={n_targets} needs, but two must have them; lower n_targets or name another "
            "data.split"
        )
    # In order of names, all pairs would come from the first corpus.
    order = np.random.default_rng(0).permutation(len(able["train"]))
    seen = [able["train"][index] for index in order]
    unseen = able[split] if split != "train" else []
    categories = [(unseen, unseen), (unseen, seen), (seen, seen)]
    alike = [(pair for pair in _between(*both) if _is_one_language(*pair)) for both in categories]
    everyone = unseen + seen
    foreign = (pair for pair in _between(everyone, everyone) if not _is_one_language(*pair))
    return _pairs([pair for some in [*alike, foreign] for pair in islice(some, n_pairs)], n_targets)


def from_folder(root: Path, n_pairs: int, n_targets: int) -> list[Pair]:
    """Choose pairs of the speakers of a folder, each with a subfolder.

    Args:
        root: The folder.
        n_pairs: Largest number of pairs.
        n_targets: Number of recordings per voice.

    Raises:
        InputError: Fewer than two speakers have enough recordings.
    """
    recordings = defaultdict(list)
    for recording in find_audio_files(root):
        recordings[recording.speaker].append(recording.path)
    wanted = n_targets + 2
    speakers = [Speaker(name, tuple(paths)) for name, paths in sorted(recordings.items())]
    able = [speaker for speaker in speakers if len(speaker.recordings) >= wanted]
    if len(able) < 2:
        raise InputError(
            f"data.dir={root}: {len(able)} of {len(speakers)} speakers (subfolders) have the "
            f"{wanted} recordings that n_targets={n_targets} needs, but two must have them; lower "
            "n_targets or add recordings"
        )
    return _pairs(islice(_between(able, able), n_pairs), n_targets)


def from_table(path: Path, root: Path | None) -> list[Pair]:
    """Read pairs from a tab-separated table.

    Its columns:

    - `source`: the recording to convert.
    - `target`: recordings separated by `|`. The last one is left out of the voice, as the reference
      for similarity. A single one is voice and reference, which makes the similarity too high.
    - Optional: `source_reference`, reference for the similarity to the source speaker (default: the
      source); `source_speaker` and `target_speaker` (default: the parent folders); `parallel`;
      `language`; `text` of the source.
    - Every other column is a kind of group.

    Args:
        path: The table.
        root: Folder that its paths are relative to; None is the table's own folder.

    Raises:
        InputError: The table cannot be read, or a row is wrong.
    """
    rows = table_rows(path, "data.pairs", {"source", "target"})
    folder = root or path.parent
    pairs = []
    for number, row in enumerate(rows, start=2):
        where = f"data.pairs={path}: line {number}"
        targets = [folder / name.strip() for name in row["target"].split(SEPARATOR) if name.strip()]
        if not row["source"]:
            raise InputError(f"{where}: names no source")
        if not targets:
            raise InputError(
                f"{where}: names no target; name one or more recordings, separated by {SEPARATOR}, "
                "the last of which is left out of the voice"
            )
        source = folder / row["source"]
        other, parallel = (
            folder / name if name else None
            for name in (
                row.get("source_reference") or row.get("source_other"),
                row.get("parallel"),
            )
        )
        for file in [source, *targets, *filter(None, [other, parallel])]:
            if not is_file(file):
                raise InputError(f"{where}: {file}: no such file")
        speakers = [
            row.get(f"{role}_speaker") or str(file.parent)
            for role, file in (("source", source), ("target", targets[0]))
        ]
        if speakers[0] == speakers[1]:
            raise InputError(
                f"{where}: source and target are of one speaker, {speakers[0]}; if not, name both "
                "in columns source_speaker and target_speaker"
            )
        pair = Pair(
            source=source,
            voice=tuple(targets[:-1] or targets),
            target_reference=targets[-1],
            source_reference=other or source,
            source_speaker=speakers[0],
            target_speaker=speakers[1],
            language=row.get("language") or "",
            groups={k: v for k, v in row.items() if v and k and k not in PAIR_COLUMNS},
            parallel=parallel,
            text=row.get("text") or "",
        )
        pairs.append(pair)
    return pairs


def speakers_of(path: Path, root: Path | None, split: str) -> list[Speaker]:
    """List the speakers of a manifest's split, with the recordings that are long enough.

    Args:
        path: The manifest.
        root: Folder that its paths are relative to; None is the manifest's own folder.
        split: Name of the split.

    Raises:
        InputError: The manifest cannot be read.
    """
    rows = defaultdict(list)
    for row in table_rows(path, "data.manifest", {"path", "speaker", "split"}):
        is_complete = row["path"] and row["speaker"]
        if is_complete and row["split"] == split and _seconds(row) >= MIN_SECONDS:
            rows[row["speaker"]].append(row)
    folder = root or path.parent
    speakers = []
    for name, own in sorted(rows.items()):
        sex = own[0].get("sex") or ""
        language = own[0].get("lang") or ""
        speaker = Speaker(
            name=name,
            recordings=tuple(path_in(folder, row["path"]) for row in own),
            seen=split == "train",
            sex=sex if sex in SEXES else "",
            language="" if language == "?" else language,
            person=own[0].get("person") or name,
            texts={row["text"]: path_in(folder, row["path"]) for row in own if row.get("text")},
        )
        speakers.append(speaker)
    return speakers


def _seconds(row: dict[str, str]) -> float:
    try:
        return float(row.get("seconds") or "inf")
    except ValueError:
        return float("inf")  # unknown


def _between(
    sources: Sequence[Speaker], targets: Sequence[Speaker]
) -> Iterator[tuple[Speaker, Speaker]]:
    """Pair sources with targets of other persons; each source comes once before any repeats."""
    for distance in range(len(targets)):
        for index, source in enumerate(sources):
            target = targets[(index + distance) % len(targets)]
            is_same_person = source.person and source.person == target.person
            if source.name != target.name and not is_same_person:
                yield source, target


def _is_one_language(source: Speaker, target: Speaker) -> bool:
    return source.language == target.language


def _pairs(couples: Iterable[tuple[Speaker, Speaker]], n_targets: int) -> list[Pair]:
    """Make pairs of speakers; the recordings of a source speaker take turns."""
    turns: dict[str, int] = defaultdict(int)
    pairs = []
    for source, target in couples:
        pairs.append(_pair(source, target, turns[source.name], n_targets))
        turns[source.name] += 1
    return pairs


def _pair(source: Speaker, target: Speaker, turn: int, n_targets: int) -> Pair:
    """Make a pair; `turn` chooses among the source speaker's recordings."""
    sources, _, source_reference = _parts(source, n_targets)
    _, voice, target_reference = _parts(target, n_targets)
    path = sources[turn % len(sources)]
    text = next((text for text, said in source.texts.items() if said == path), "")
    groups = {}
    if source.seen is not None and target.seen is not None:
        names = {True: "seen", False: "unseen"}
        groups["speakers"] = f"{names[source.seen]} → {names[target.seen]}"
    if source.sex and target.sex:
        groups["gender"] = "same gender" if source.sex == target.sex else "cross gender"
    if source.language and target.language:
        groups["languages"] = f"{source.language} → {target.language}"
    return Pair(
        source=path,
        voice=voice,
        target_reference=target_reference,
        source_reference=source_reference,
        source_speaker=source.name,
        target_speaker=target.name,
        language=source.language,
        groups=groups,
        parallel=target.texts.get(text),
        text=text,
    )


def _parts(speaker: Speaker, n_targets: int) -> tuple[tuple[Path, ...], tuple[Path, ...], Path]:
    """Divide a speaker's recordings into sources (first), voice (next) and reference (last)."""
    n_sources = min(N_SOURCES, len(speaker.recordings) - n_targets - 1)
    voice = speaker.recordings[n_sources : n_sources + n_targets]
    return speaker.recordings[:n_sources], voice, speaker.recordings[-1]
