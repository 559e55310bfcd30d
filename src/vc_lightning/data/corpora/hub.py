"""Any audio data set in Parquet or WebDataset form, in a folder or on the Hugging Face Hub.

The package `datasets` finds its files, and which split and configuration they belong to; of Parquet
only the columns of texts and labels are read here, of tars the headers and small files. The
recordings stay where they are: the manifest holds their addresses, see `audio.containers`.
"""

import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from vc_lightning.audio.files import containers
from vc_lightning.audio.files.io import AUDIO_SUFFIXES
from vc_lightning.common.errors import InputError, needs_extra
from vc_lightning.data.corpora.recordings import LeftOut, Listed, Recording, sex, split_of

if TYPE_CHECKING:
    from datasets import Features

GUESSES = {  # names of columns in public data sets; the first that exists is taken
    "speaker": ("speaker_id", "speaker", "client_id", "spk_id", "spk", "speaker_name", "reader_id"),
    "text": (
        *("text", "sentence", "transcription", "transcript", "text_normalized"),
        *("normalized_text", "transcription_normalised", "raw_text", "txt"),
    ),
    "lang": ("language", "lang", "locale", "lang_id"),
    "sex": ("gender", "sex"),
    "seconds": ("duration", "audio_duration", "seconds", "length_seconds"),
}
MAX_LABELS = 2**20  # bytes of a text or JSON file in a tar
SCHEME = "hf://datasets/"


def read(
    root: str,
    config: str | None,
    columns: Mapping[str, str | None],
    max_files: int | None,
    lang: str,
    licence: str,
) -> Listed:
    """List the recordings of a data set.

    Args:
        root: A folder, or OWNER/NAME on the Hub, with or without hf://datasets/.
        config: One of the data set's configurations, such as "clean"; None if it has one only.
        columns: The columns (or fields of a JSON file) of audio, speaker, text, lang, sex and
            seconds; None guesses by their names.
        max_files: Number of files of each split to read; None reads all.
        lang: Language of all recordings; "" takes the column's or that of the data set's card.
        licence: Licence of all recordings; "" takes that of the data set's card.

    Raises:
        InputError: There is no such data set, or it has another form, or no column of speakers.
    """
    with needs_extra("corpus=hf", "corpora"):
        import datasets
    name = str(root).removeprefix(SCHEME)
    try:
        builder = datasets.load_dataset_builder(name, config)
    except (OSError, ValueError, LookupError, RuntimeError) as error:
        raise InputError(f"root={root}: cannot be read ({_first_line(error)})") from error
    form = type(builder).__module__.rpartition(".")[2]
    if form not in ("parquet", "webdataset"):
        raise InputError(
            f"root={root}: holds files of the form {form}; Parquet and WebDataset can be read in "
            "place, and a folder of recordings by corpus=folder"
        )
    about = _card(name)
    licence = licence or about.get("license", "")
    lang = lang or about.get("language", "")
    for name_of_split, files in builder.config.data_files.items():
        split = split_of(str(name_of_split))
        for file in map(str, files[:max_files]):
            try:
                rows: Iterable[dict[str, Any] | LeftOut] = (
                    _parquet_rows(file, columns, f"root={root}")
                    if form == "parquet"
                    else _tar_rows(file, columns)
                )
                for row in rows:
                    yield row if isinstance(row, LeftOut) else _recording(row, split, lang, licence)
            except (OSError, ValueError, RuntimeError, tarfile.TarError) as error:
                if isinstance(error, InputError):
                    raise
                raise InputError(f"{file}: cannot be read ({_first_line(error)})") from error


def _recording(row: dict[str, Any], split: str, lang: str, licence: str) -> Recording | LeftOut:
    if row.get("speaker") in (None, ""):
        return LeftOut("name no speaker", row["path"])
    seconds = row.get("seconds")
    return Recording(
        Path(row["path"]),
        str(row["speaker"]),
        split,
        str(row.get("lang") or lang),
        sex(str(row.get("sex") or "")),
        str(row.get("text") or "").strip(),
        licence,
        float(seconds) if isinstance(seconds, int | float) else None,
    )


# Parquet ------------------------------------------------------------------------------------------


def _parquet_rows(
    file: str, columns: Mapping[str, str | None], name: str
) -> Iterator[dict[str, Any]]:
    """Read what a Parquet file says of its recordings, without their sound."""
    from datasets import Features
    from pyarrow.parquet import ParquetFile

    with containers.open_file(file) as source, ParquetFile(source) as opened:
        features = Features.from_arrow_schema(opened.schema_arrow)
        found = _columns(features, columns, name)
        audio = found.pop("audio")
        row = 0
        for batch in opened.iter_batches(columns=list(found.values()), use_threads=False):
            for values in batch.to_pylist():
                labels = {kind: _label(features[c], values[c]) for kind, c in found.items()}
                yield labels | {"path": str(containers.Row(file, row, audio))}
                row += 1


def _columns(features: "Features", columns: Mapping[str, str | None], name: str) -> dict[str, str]:
    """Choose the column of each kind.

    Raises:
        InputError: There is no such column, none of audio, or none of speakers.
    """
    from datasets import Audio

    listed = ", ".join(features)
    for kind, column in columns.items():
        if column is not None and column not in features:
            raise InputError(f"corpus.columns.{kind}={column}: the columns of {name} are {listed}")
    sounds = [column for column, feature in features.items() if isinstance(feature, Audio)]
    sounds += [column for column in ("audio", "wav", "flac", "mp3") if column in features]
    found = {"audio": columns.get("audio") or next(iter(sounds), "")}
    for kind, guesses in GUESSES.items():
        column = columns.get(kind) or next((guess for guess in guesses if guess in features), None)
        if column is not None:
            found[kind] = column
    for kind in ("audio", "speaker"):
        if not found.get(kind):
            raise InputError(
                f"{name}: which column is its {kind}? Give corpus.columns.{kind}=COLUMN, one of "
                f"{listed}"
            )
    return found


def _label(feature: object, value: object) -> object:
    """Return the name of a class label, and any other value unchanged."""
    names = getattr(feature, "names", None)  # of a ClassLabel
    return names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value


# WebDataset ---------------------------------------------------------------------------------------


def _tar_rows(file: str, columns: Mapping[str, str | None]) -> Iterator[dict[str, Any] | LeftOut]:
    """Read what a tar says of its recordings: files of one name are one recording's."""
    if not file.endswith(".tar"):
        yield LeftOut("are in a compressed tar, whose recordings cannot be read in place", file)
        return
    with containers.open_file(file) as source, tarfile.open(fileobj=source, mode="r:") as tar:
        for key, members in _by_key(tar):
            sounds = {
                extension: member
                for extension, member in members.items()
                if f".{extension.rpartition('.')[2]}" in AUDIO_SUFFIXES
            }
            wanted = columns.get("audio")
            sound = sounds.get(wanted) if wanted else next(iter(sounds.values()), None)
            if sound is None:
                yield LeftOut("hold no sound", key)
                continue
            labels = _labels(tar, members, columns)
            if "speaker" not in labels and columns.get("speaker"):
                fields = ", ".join(labels) or "none"
                raise InputError(
                    f"corpus.columns.speaker={columns['speaker']}: {key} in {file} has no such "
                    f"field ({fields} were found)"
                )
            span = containers.Span(file, sound.offset_data, sound.size)
            yield labels | {"path": str(span)}


def _by_key(tar: tarfile.TarFile) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Group the files of a tar by their names up to the first point, as WebDataset does."""
    key = ""
    members: dict[str, tarfile.TarInfo] = {}
    for member in tar:
        if not member.isfile():
            continue
        path = PurePosixPath(member.name)
        stem, _, extension = path.name.partition(".")
        own = str(path.with_name(stem)) if stem else member.name
        if own != key and members:
            yield key, members
            members = {}
        key = own
        members[extension.lower()] = member
    if members:
        yield key, members


def _labels(
    tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], columns: Mapping[str, str | None]
) -> dict[str, Any]:
    """Read the text and JSON files of a recording."""
    fields: dict[str, Any] = {}
    for extension, member in members.items():
        opened = tar.extractfile(member) if member.size <= MAX_LABELS else None
        if extension in ("json", "txt", "cls", "speaker") and opened is not None:
            content = opened.read().decode(errors="replace").strip()
            value = _json(content) if extension == "json" else content
            fields |= value if isinstance(value, dict) else {extension: value}
    found = {}
    for kind, guesses in GUESSES.items():
        given = columns.get(kind)
        names = guesses if given is None else (given,)
        values = [fields[name] for name in names if name in fields]
        if values:
            found[kind] = values[0]
    return found


def _json(content: str) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return {}


# The card -----------------------------------------------------------------------------------------


def _card(name: str) -> dict[str, str]:
    """Read licence and language of a data set's card (README.md); {} without one."""
    from huggingface_hub import DatasetCard

    local = Path(name) / "README.md"
    if Path(name).exists() and not local.is_file():
        return {}
    try:
        card = DatasetCard.load(
            str(local) if local.is_file() else name, ignore_metadata_errors=True
        )
    except (OSError, ValueError, LookupError, RuntimeError):
        return {}
    found = {}
    for key in ("license", "language"):
        value = card.data.to_dict().get(key)
        values = value if isinstance(value, list) else [value]
        if len(values) == 1 and isinstance(values[0], str):
            found[key] = values[0]
    return found


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
