"""Features as WebDataset shards: a corpus that no disk holds is streamed from where it lies.

A folder of shards holds `train-000000.tar`, `val-000000.tar`, … and an `index.json`, written last.
Each utterance is five files of a tar: `<key>.mels.npy` (1 + W, T, n_mels), float16, the recording
and its W warped copies, `<key>.embeddings.npy` (1 + W, E), float32, `<key>.f0.npy` (T,), float32,
the pitch or zeros where the network is not told it, `<key>.teacher.npy` (T, D), float16, a
teacher's features, D being 0 without one, and `<key>.json`.
"""

import io
import itertools
import json
import logging
import math
import os
import re
import tarfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vc_lightning.audio.io import atomic_path
from vc_lightning.audio.pitch import tracker_name
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.data.crops import speaker_voices
from vc_lightning.data.datamodule import VoiceDataModule
from vc_lightning.data.manifest import Utterance

try:
    import webdataset
except ImportError:  # the extra `shards` is not installed
    webdataset = None

log = logging.getLogger(__name__)

FORMAT_VERSION = 3
MIN_SHARDS = 16  # of a split, however small: so many workers can read side by side
TAR_OVERHEAD = 6144  # bytes of headers and padding for the five files of an utterance
ATTEMPTS = 3  # to read a shard from afar
RETRY_SECONDS = 2.0
ARRAYS = ("mels.npy", "embeddings.npy", "f0.npy", "teacher.npy")
DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, tarfile.TarError, zlib.error)


@dataclass(frozen=True)
class Split:
    """Size of the training or the validation set.

    Attributes: frames, of mel in all; shards, how many utterances each of them holds.
    """

    utterances: int
    speakers: int
    frames: int
    shards: list[int]


@dataclass(frozen=True)
class Index:
    """What a folder of shards holds and what made it; mean_mel (n_mels,) is the training set's.

    Attributes:
        pitch_tracker: which made the pitch, see `pitch.tracker_name`; None where there is none.
        teacher: identity of the teacher, None where there is none.
        teacher_std: standard deviation (D,) of its features.
    """

    format: int
    mel: dict
    speaker_encoder: str
    speaker_embedding: str
    warps: list[float]
    pitch_tracker: str | None
    teacher: str | None
    teacher_std: list[float]
    mean_mel: list[float]
    train: Split
    val: Split


@dataclass(frozen=True)
class Sample:
    """An utterance of a shard.

    Attributes: key; speaker; mels (1 + W, T, n_mels); embeddings (1 + W, E); f0 (T,);
        teacher (T, D).
    """

    key: int
    speaker: str
    mels: np.ndarray
    embeddings: np.ndarray
    f0: np.ndarray
    teacher: np.ndarray


def require_writable(folder: str) -> Path:
    """An empty folder to write shards to, made where there is none; else InputError."""
    require_webdataset("data.write_shards")
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise InputError(f"data.write_shards={folder}: is not empty; name a new folder")
        if not os.access(path, os.W_OK | os.X_OK):
            raise InputError(f"data.write_shards={folder}: cannot be written; name another")
    except OSError as error:
        raise InputError(
            f"data.write_shards={folder}: cannot be written ({error.strerror}); name another"
        ) from error
    return path


def write(data: VoiceDataModule, folder: str, max_megabytes: float, max_utterances: int) -> Index:
    """Writes the features of a data module that was set up; only `index.json` makes them whole."""
    path = require_writable(folder)
    sizes = {
        split: _write_split(data, utterances, path, split, max_megabytes * 1e6, max_utterances)
        for split, utterances in (("train", data.train), ("val", data.val))
    }
    index = Index(
        format=FORMAT_VERSION,
        mel=data.mel.settings,
        speaker_encoder=data.encoder_identity,
        speaker_embedding=data.speaker_embedding,
        warps=data.features.files.warps[1:],
        pitch_tracker=tracker_name() if data.files.with_f0 else None,
        teacher=data.features.teacher.identity if data.features.teacher else None,
        teacher_std=data.teacher_std.tolist(),
        mean_mel=data.mean_mel().tolist(),
        **sizes,
    )
    with atomic_path(path / "index.json") as temporary:
        temporary.write_text(json.dumps(asdict(index)))
    for split, size in sizes.items():
        seconds = size.frames * data.mel.settings["hop_length"] / data.mel.sample_rate
        numbers = size.utterances, size.speakers, seconds / 3600, len(size.shards)
        log.info("%s: %d utterances of %d speakers, %.2f hours, in %d shards", split, *numbers)
    how = resources.command("train")
    log.info("train:   %s data=shards data.dir=%s", how, quote(str(folder)))
    return index


def _write_split(
    data: VoiceDataModule,
    utterances: Sequence[Utterance],
    folder: Path,
    split: str,
    max_bytes: float,
    max_utterances: int,
) -> Split:
    """Writes shards of about the same size, utterances in random order so that speakers mix."""
    files, voices = data.features.files, None
    if data.speaker_embedding == "speaker":
        voices = speaker_voices(utterances, files, data.features.speaker_encoder.average)
    n_numbers = len(files.warps) * data.mel.n_mels + len(data.teacher_std)  # a frame
    n_bytes = sum(2 * n_numbers * u.n_frames for u in utterances)
    n_bytes += len(utterances) * TAR_OVERHEAD
    needed = max(n_bytes / max_bytes, len(utterances) / max_utterances, MIN_SHARDS)
    n_shards = min(math.ceil(needed), len(utterances))
    order = np.random.default_rng(data.seed).permutation(len(utterances))
    progress = tqdm(desc=split, total=len(order), unit="utterance", dynamic_ncols=True)
    key, counts = 0, []
    with progress:
        for part in np.array_split(order, n_shards) if utterances else []:
            with (
                (folder / _name(split, len(counts))).open("wb") as file,
                webdataset.TarWriter(file, user="", group="", mtime=0) as tar,
            ):
                for utterance in (utterances[i] for i in part):
                    tar.write(_files_of(utterance, data, voices, key))
                    key += 1
                    progress.update()
            counts.append(len(part))
    speakers, frames = {u.speaker for u in utterances}, sum(u.n_frames for u in utterances)
    return Split(len(utterances), len(speakers), frames, counts)


def _files_of(
    utterance: Utterance, data: VoiceDataModule, voices: dict[str, Tensor] | None, key: int
) -> dict[str, str | bytes | dict]:
    """What the tar gets of an utterance; its own embeddings unless there are its speaker's."""
    files, piece = data.features.files, utterance.piece
    copies = range(len(files.warps))
    mels = torch.stack([files.read_mel(piece, 0, piece.n_frames, copy).T for copy in copies])
    if voices is None:
        embeddings = torch.stack([files.read_embedding(piece, copy) for copy in copies])
    else:
        embeddings = voices[utterance.speaker]
    encoded = {
        "mels.npy": webdataset.numpy_dumps(mels.half().numpy()),
        "embeddings.npy": webdataset.numpy_dumps(embeddings.float().numpy()),
        "f0.npy": webdataset.numpy_dumps(files.read_f0(piece, 0, piece.n_frames).numpy()),
        "teacher.npy": webdataset.numpy_dumps(
            files.read_teacher(piece, 0, piece.n_frames).half().numpy()
        ),
    }
    about = {
        "speaker": utterance.speaker,
        "n_frames": utterance.n_frames,
        "crc32": _checksum(encoded),  # a tar has none of its contents
    }
    return {"__key__": f"{key:08d}", "json": about, **encoded}


def _checksum(files: dict[str, bytes]) -> int:
    checksum = 0
    for name in ARRAYS:
        checksum = zlib.crc32(files[name], checksum)
    return checksum


def _name(split: str, number: int) -> str:
    return f"{split}-{number:06d}.tar"


class Shards:
    """The shards of a split, which are read from the beginning to the end.

    Args:
        place: a folder, a URL, or `pipe:` and a command in which {} stands for a file's name.
        counts: how many utterances each shard holds; `n_copies`: of every utterance, 1 + W.
    """

    def __init__(self, place: str, split: str, counts: Sequence[int], n_copies: int):
        self.place = place
        self.split = split
        self.counts = counts
        self.n_copies = n_copies

    def __len__(self) -> int:
        return len(self.counts)

    def read(self, number: int) -> Iterator[Sample]:
        """The utterances of a shard; what breaks off on its way here is asked for again.

        Raises: InputError when a shard is missing, damaged or of another length than it had.
        """
        url = url_of(self.place, _name(self.split, number))
        done, reason = 0, ""
        for attempt in range(ATTEMPTS if is_remote(self.place) else 1):
            if attempt > 0:
                log.warning("%s: %s; trying again", url, reason)
                time.sleep(RETRY_SECONDS * attempt)
            try:
                samples = webdataset.tarfile_samples([{"url": url}])
                for files in itertools.islice(samples, done, None):
                    yield self._decoded(files)
                    done += 1
                if done == self.counts[number]:
                    return
                # A tar that breaks off between two files looks like one that ends there.
                reason = f"holds {done} utterances in place of {self.counts[number]}"
            except DAMAGE as error:
                reason = f"is missing or damaged ({_reason(error)})"
        raise InputError(f"{url}: {reason}; bring this shard here again, or write all anew")

    def read_all(self) -> Iterator[Sample]:
        """The utterances of all shards in order."""
        return itertools.chain.from_iterable(map(self.read, range(len(self))))

    def _decoded(self, files: dict) -> Sample:
        about = json.loads(files["json"])
        if _checksum(files) != about["crc32"]:
            raise ValueError("wrong checksum")
        arrays = (np.load(io.BytesIO(files[n]), allow_pickle=False) for n in ARRAYS)
        mels, voices, f0, teacher = arrays
        sizes = (*mels.shape[:2], len(voices), len(f0))
        if sizes != (self.n_copies, about["n_frames"]) * 2 or len(teacher) != len(f0):
            raise ValueError("of other warps or lengths than index.json says")
        return Sample(int(files["__key__"]), about["speaker"], mels, voices, f0, teacher)


def is_remote(place: str) -> bool:
    """Whether a place is a URL or a command, and no folder."""
    return re.match(r"pipe:|\w+://", place) is not None


def url_of(place: str, name: str) -> str:
    """What the library opens to read a file of a folder, a URL or a `pipe:` command."""
    if not is_remote(place):
        return str((Path(place).expanduser() / name).absolute())
    return place.replace("{}", name) if "{}" in place else f"{place.rstrip('/')}/{name}"


def read_index(place: str) -> Index:
    """The `index.json` of a folder of shards; InputError when it is missing or not one of ours."""
    try:
        with webdataset.gopen(url_of(place, "index.json")) as file:
            content = json.loads(file.read())
        version = content["format"]
        if version == FORMAT_VERSION:
            splits = {split: Split(**content[split]) for split in ("train", "val")}
            return Index(**content | splits)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"data.dir={place}: its index.json cannot be read ({_reason(error)}); name a folder "
            'that data.write_shards has finished, or its URL or "pipe:COMMAND {}"'
        ) from error
    raise InputError(
        f"data.dir={place}: its shards are of format {version}, this program reads "
        f"{FORMAT_VERSION}; write them anew"
    )


def _reason(error: Exception) -> str:
    """The library's errors without the streams and commands that it adds to them."""
    text = getattr(error, "strerror", None) or (str(error.args[0]) if error.args else "")
    ended = re.search(r"exit \d+", text)
    return f"its command ended with {ended[0]}" if ended else text.split(" @ ")[0]


def require_webdataset(key: str) -> None:
    """Raises InputError where the extra `shards` was not installed."""
    if webdataset is None:
        raise InputError(f'{key} needs the package webdataset: pip install -e ".[shards]"')
