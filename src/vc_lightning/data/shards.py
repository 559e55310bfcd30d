"""Features as WebDataset shards, to stream a corpus that is too large for the local disk.

A folder of shards holds `train-000000.tar`, `val-000000.tar`, … and an `index.json`, written last.
An utterance is five files in a tar:

- `<key>.mels.npy` (1 + W, T, n_mels), float16: the recording and its W VTLP copies.
- `<key>.embeddings.npy` (1 + W, E), float32.
- `<key>.f0.npy` (T,), float32: pitch in Hz, all 0 where it was not computed.
- `<key>.teacher.npy` (T, D), float16: a teacher's features; D is 0 without a teacher.
- `<key>.json`: speaker, number of frames, checksum.
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
from vc_lightning.data.crops import speaker_embeddings
from vc_lightning.data.datamodule import VoiceDataModule
from vc_lightning.data.manifest import Utterance

try:
    import webdataset
except ImportError:  # the extra `shards` is not installed
    webdataset = None

log = logging.getLogger(__name__)

FORMAT_VERSION = 3
MIN_SHARDS = 16  # of a split, so that as many workers can read in parallel
TAR_OVERHEAD = 6144  # bytes of headers and padding for the five files of an utterance
ATTEMPTS = 3  # to read a remote shard
RETRY_SECONDS = 2.0
ARRAYS = ("mels.npy", "embeddings.npy", "f0.npy", "teacher.npy")
DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, tarfile.TarError, zlib.error)


@dataclass(frozen=True)
class Split:
    """Size of the training or the validation set.

    Attributes:
        utterances: Number of utterances.
        speakers: Number of speakers.
        frames: Number of mel frames.
        shards: Number of utterances in each shard.
    """

    utterances: int
    speakers: int
    frames: int
    shards: list[int]


@dataclass(frozen=True)
class Index:
    """Content of `index.json`: what the shards hold and which settings made them.

    Attributes:
        format: Version of the format.
        mel: Settings of the mels.
        speaker_encoder: Identity of the speaker encoder.
        speaker_embedding: "utterance" or "speaker", see `VoiceDataModule`.
        warps: VTLP factors of copies 1, 2, …
        pitch_tracker: Name of the pitch tracker; None where there is no pitch.
        teacher: Identity of the teacher; None without one.
        teacher_std: Standard deviation (D,) of its features.
        mean_mel: Mean training mel (n_mels,).
        train: Size of the training set.
        val: Size of the validation set.
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

    Attributes:
        key: Number of the utterance in its split.
        speaker: Name of the speaker.
        mels: (1 + W, T, n_mels), float16.
        embeddings: (1 + W, E).
        f0: (T,) in Hz.
        teacher: (T, D), float16.
    """

    key: int
    speaker: str
    mels: np.ndarray
    embeddings: np.ndarray
    f0: np.ndarray
    teacher: np.ndarray


def require_writable(folder: str) -> Path:
    """Make an empty folder for shards.

    Raises:
        InputError: It is not empty, cannot be written, or webdataset is not installed.
    """
    require_webdataset("data.write_shards")
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise InputError(f"data.write_shards={folder}: is not empty; name a new folder")
        if not os.access(path, os.W_OK | os.X_OK):
            raise InputError(f"data.write_shards={folder}: cannot be written; name another folder")
    except OSError as error:
        raise InputError(
            f"data.write_shards={folder}: cannot be written ({error.strerror}); name another folder"
        ) from error
    return path


def write(data: VoiceDataModule, folder: str, max_megabytes: float, max_utterances: int) -> Index:
    """Write the features of a data module as shards; `index.json`, written last, completes them.

    Args:
        data: The data module, set up.
        folder: A new or empty folder.
        max_megabytes: Largest size of a shard.
        max_utterances: Largest number of utterances in a shard.

    Returns:
        The index.
    """
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
        warps=data.features.files.factors[1:],
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
    """Write shards of about equal size, the utterances in random order to mix the speakers."""
    files, embeddings = data.features.files, None
    if data.speaker_embedding == "speaker":
        embeddings = speaker_embeddings(utterances, files, data.features.speaker_encoder.average)
    n_numbers = len(files.factors) * data.mel.n_mels + len(data.teacher_std)  # a frame
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
                    tar.write(_files_of(utterance, data, embeddings, key))
                    key += 1
                    progress.update()
            counts.append(len(part))
    speakers, frames = {u.speaker for u in utterances}, sum(u.n_frames for u in utterances)
    return Split(len(utterances), len(speakers), frames, counts)


def _files_of(
    utterance: Utterance,
    data: VoiceDataModule,
    mean_embeddings: dict[str, Tensor] | None,
    key: int,
) -> dict[str, str | bytes | dict]:
    """Encode the files of an utterance, with its own embeddings or its speaker's mean ones."""
    files, segment = data.features.files, utterance.segment
    copies = range(len(files.factors))
    mels = torch.stack([files.read_mel(segment, 0, segment.n_frames, copy).T for copy in copies])
    if mean_embeddings is None:
        embeddings = torch.stack([files.read_embedding(segment, copy) for copy in copies])
    else:
        embeddings = mean_embeddings[utterance.speaker]
    encoded = {
        "mels.npy": webdataset.numpy_dumps(mels.half().numpy()),
        "embeddings.npy": webdataset.numpy_dumps(embeddings.float().numpy()),
        "f0.npy": webdataset.numpy_dumps(files.read_f0(segment, 0, segment.n_frames).numpy()),
        "teacher.npy": webdataset.numpy_dumps(
            files.read_teacher(segment, 0, segment.n_frames).half().numpy()
        ),
    }
    about = {
        "speaker": utterance.speaker,
        "n_frames": utterance.n_frames,
        "crc32": _checksum(encoded),  # a tar holds no checksum of its contents
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
    """The shards of a split, each read from beginning to end.

    Args:
        place: A folder, a URL, or `pipe:` and a command in which {} stands for a file's name.
        split: "train" or "val".
        counts: Number of utterances in each shard.
        n_copies: Number of copies of each utterance, 1 + W.
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
                # A tar cut between two files looks like one that ends there.
                reason = f"holds {done} utterances instead of {self.counts[number]}"
            except DAMAGE as error:
                reason = f"is missing or damaged ({_reason(error)})"
        raise InputError(f"{url}: {reason}; transfer this shard again, or write all of them again")

    def read_all(self) -> Iterator[Sample]:
        """Read the utterances of all shards in order."""
        return itertools.chain.from_iterable(map(self.read, range(len(self))))

    def _decoded(self, files: dict) -> Sample:
        about = json.loads(files["json"])
        if _checksum(files) != about["crc32"]:
            raise ValueError("wrong checksum")
        arrays = (np.load(io.BytesIO(files[n]), allow_pickle=False) for n in ARRAYS)
        mels, embeddings, f0, teacher = arrays
        sizes = (*mels.shape[:2], len(embeddings), len(f0))
        if sizes != (self.n_copies, about["n_frames"]) * 2 or len(teacher) != len(f0):
            raise ValueError("its copies or lengths differ from index.json")
        return Sample(int(files["__key__"]), about["speaker"], mels, embeddings, f0, teacher)


def is_remote(place: str) -> bool:
    """Whether a place is a URL or a command, not a folder."""
    return re.match(r"pipe:|\w+://", place) is not None


def url_of(place: str, name: str) -> str:
    """URL of a file of a folder, of a URL or of a `pipe:` command, as webdataset opens it."""
    if not is_remote(place):
        return str((Path(place).expanduser() / name).absolute())
    return place.replace("{}", name) if "{}" in place else f"{place.rstrip('/')}/{name}"


def read_index(place: str) -> Index:
    """Read the `index.json` of a folder of shards.

    Raises:
        InputError: It is missing, damaged or of another format.
    """
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
            'that data.write_shards has completed, or its URL or "pipe:COMMAND {}"'
        ) from error
    raise InputError(
        f"data.dir={place}: its shards are of format {version}, this program reads "
        f"{FORMAT_VERSION}; write them again"
    )


def _reason(error: Exception) -> str:
    """Shorten an error of webdataset, which adds streams and commands to it."""
    text = getattr(error, "strerror", None) or (str(error.args[0]) if error.args else "")
    ended = re.search(r"exit \d+", text)
    return f"its command ended with {ended[0]}" if ended else text.split(" @ ")[0]


def require_webdataset(key: str) -> None:
    """Raise InputError where the extra `shards` is not installed."""
    if webdataset is None:
        raise InputError(f'{key} needs the package webdataset: pip install -e ".[shards]"')
