"""Features as WebDataset shards, to stream a corpus that is too large for the local disk.

A folder of shards holds `train-000000.tar`, `val-000000.tar`, … and, written last, `index.json`.
An utterance is five files in a tar:

- `<key>.mels.npy` (1 + W, T, n_mels), float16: the recording and its W VTLP copies.
- `<key>.embeddings.npy` (1 + W, E), float32.
- `<key>.f0.npy` (T,), float32: pitch in Hz, all 0 where it was not computed.
- `<key>.teacher.npy` (T, D), float16: a teacher's features; D is 0 without a teacher.
- `<key>.heard.npy` (1 + W, T, D), float16: what a recogniser hears; only where `recogniser` is set.
- `<key>.json`: speaker, number of frames, checksum.
"""

import functools
import io
import itertools
import json
import logging
import math
import re
import tarfile
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from vc_lightning.common.errors import InputError
from vc_lightning.common.files import expand_user
from vc_lightning.data.features.files import UtteranceFeatures

try:
    import webdataset
except ImportError:  # the extra `shards` is not installed
    webdataset = None

log = logging.getLogger(__name__)

FORMAT_VERSION = 3
ATTEMPTS = 3  # to read a remote shard
RETRY_SECONDS = 2.0
MAX_HEADER = 128  # bytes of a .npy file that hold its header: NumPy pads it to a multiple of 64
ARRAYS = ("mels.npy", "embeddings.npy", "f0.npy", "teacher.npy")
HEARD = "heard.npy"
DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, tarfile.TarError, zlib.error)


@dataclass(frozen=True)
class Split:
    """Sizes of the training or the validation set.

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
        vtlp_factors: Factors of the VTLP copies 1, 2, …
        pitch_tracker: Name of the pitch tracker; None where there is no pitch.
        teacher: Identity of the teacher; None without one.
        teacher_std: Standard deviation (D,) of the teacher's features.
        mean_mel: Mean training mel (n_mels,).
        recogniser: Identity of the recogniser whose features are held for every copy, for networks
            that listen; None where there are none.
        heard_mean: Mean (D,) of its features.
        heard_std: Standard deviation (D,) of its features.
        clean_acoustics: `acoustics.clean` of the training recordings.
        train: Sizes of the training set.
        val: Sizes of the validation set.
    """

    format: int
    mel: dict
    speaker_encoder: str
    speaker_embedding: str
    vtlp_factors: list[float]
    pitch_tracker: str | None
    teacher: str | None
    teacher_std: list[float]
    mean_mel: list[float]
    train: Split
    val: Split
    recogniser: str | None = None
    heard_mean: list[float] = field(default_factory=list)
    heard_std: list[float] = field(default_factory=list)
    clean_acoustics: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Sample(UtteranceFeatures):
    """An utterance of a shard.

    Attributes:
        key: Number of the utterance in its split.
        speaker: Name of the speaker.
        mels: (1 + W, T, n_mels), float16.
        embeddings: (1 + W, E).
        f0: (T,) in Hz.
        teacher: (T, D), float16.
        heard: (1 + W, T, D), float16; D is 0 where there is no recogniser.
    """

    key: int
    speaker: str
    mels: np.ndarray
    embeddings: np.ndarray
    f0: np.ndarray
    teacher: np.ndarray
    heard: np.ndarray

    @property
    def n_frames(self) -> int:
        """Number of frames T."""
        return self.mels.shape[1]

    def read(self, feature: str, start: int, stop: int, copy: int = 0) -> Tensor:
        """Copy frames start…stop of a feature to float32, to free the utterance."""
        whole = {
            "mels": self.mels[copy],
            "pitches": self.f0,
            "teacher": self.teacher,
            "heard": self.heard[copy],
        }
        return torch.from_numpy(whole[feature][start:stop]).float()

    def read_embedding(self, copy: int = 0) -> Tensor:
        """Return the speaker embedding (E,) of a copy."""
        return torch.from_numpy(self.embeddings)[copy]


def checksum(files: dict[str, bytes]) -> int:
    """Compute the CRC-32 of the arrays of an utterance, given as file names with their bytes."""
    checksum = 0
    for name in (*ARRAYS, HEARD):
        checksum = zlib.crc32(files.get(name, b""), checksum)
    return checksum


def read_array(content: bytes) -> np.ndarray:
    """Read an array from the bytes of a .npy file.

    Faster than `numpy.load`, which parses every header as Python: headers, most of which are the
    same, are parsed once.

    Raises:
        ValueError: The bytes are not a .npy file of plain numbers.
    """
    dtype, shape, start = _array_header(content[:MAX_HEADER])
    count = math.prod(shape)
    if len(content) != start + count * dtype.itemsize:
        raise ValueError(f"an array has {len(content)} bytes, not the size in its header")
    return np.frombuffer(content, dtype, count, start).reshape(shape).copy()


@functools.lru_cache(maxsize=10_000)
def _array_header(content: bytes) -> tuple[np.dtype, tuple[int, ...], int]:
    """Parse the header of a .npy file: type, shape, and position of the first number."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array is not of version 1.0 of the .npy format")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if is_fortran or dtype.hasobject:
        raise ValueError("an array is not of plain numbers in C order")
    return dtype, shape, file.tell()


def shard_name(split: str, number: int) -> str:
    """Return the file name of a shard."""
    return f"{split}-{number:06d}.tar"


@dataclass(frozen=True)
class Shards:
    """The shards of a split, each of which is read from beginning to end.

    Attributes:
        place: A folder, a URL, `hf://datasets/OWNER/NAME`, or `pipe:` and a command in which {}
            stands for a file's name.
        split: "train" or "val".
        counts: Number of utterances in each shard.
        n_copies: Number of copies of each utterance, 1 + W.
    """

    place: str
    split: str
    counts: Sequence[int]
    n_copies: int

    def __len__(self) -> int:
        return len(self.counts)

    def read(self, number: int) -> Iterator[Sample]:
        """Read the utterances of a shard; a remote shard is tried `ATTEMPTS` times.

        Args:
            number: Number of the shard.

        Raises:
            InputError: The shard is missing, damaged or of another length than the index says.
        """
        url = url_of(self.place, shard_name(self.split, number))
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
                # A tar that was cut between two files reads without an error.
                reason = f"holds {done} utterances instead of {self.counts[number]}"
            except DAMAGE as error:
                reason = f"is missing or damaged ({_reason(error)})"
        raise InputError(f"{url}: {reason}; transfer this shard again, or write all of them again")

    def read_all(self) -> Iterator[Sample]:
        """Read the utterances of all shards in order."""
        return itertools.chain.from_iterable(map(self.read, range(len(self))))

    def _decoded(self, files: dict) -> Sample:
        about = json.loads(files["json"])
        if checksum(files) != about["crc32"]:
            raise ValueError("wrong checksum")
        mels, embeddings, f0, teacher = (read_array(files[name]) for name in ARRAYS)
        sizes = (*mels.shape[:2], len(embeddings), len(f0))
        if sizes != (self.n_copies, about["n_frames"]) * 2 or len(teacher) != len(f0):
            raise ValueError("its copies or lengths differ from index.json")
        heard = np.zeros((*mels.shape[:2], 0), np.float16)
        if HEARD in files:
            heard = read_array(files[HEARD])
        if heard.shape[:2] != mels.shape[:2]:
            raise ValueError("its copies or lengths differ from index.json")
        return Sample(int(files["__key__"]), about["speaker"], mels, embeddings, f0, teacher, heard)


def is_remote(place: str) -> bool:
    """Return whether a place is a URL or a `pipe:` command rather than a folder."""
    return re.match(r"pipe:|\w+://", place) is not None


def url_of(place: str, name: str) -> str:
    """Make webdataset's URL of a file at a place, see `Shards`."""
    if not is_remote(place):
        return str((expand_user(place) / name).absolute())
    return place.replace("{}", name) if "{}" in place else f"{place.rstrip('/')}/{name}"


def read_index(place: str) -> Index:
    """Read the `index.json` of a folder of shards.

    Raises:
        InputError: The file is missing, damaged or of another format.
    """
    try:
        with webdataset.gopen(url_of(place, "index.json")) as file:
            content = json.loads(file.read())
        version = content["format"]
        if version == FORMAT_VERSION:
            splits = {split: Split(**content[split]) for split in ("train", "val")}
            if "warps" in content:  # name of vtlp_factors until version 0.3.0
                content["vtlp_factors"] = content.pop("warps")
            return Index(**content | splits)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"data.dir={place}: its index.json cannot be read ({_reason(error)}); name a folder "
            'that `prepare.py shards` has completed, or its URL or "pipe:COMMAND {}"'
        ) from error
    raise InputError(
        f"data.dir={place}: its shards are of format {version}, this program reads "
        f"{FORMAT_VERSION}; write them again"
    )


def _reason(error: Exception) -> str:
    """Shorten an error of webdataset, which contains streams and commands."""
    text = getattr(error, "strerror", None) or (str(error.args[0]) if error.args else "")
    ended = re.search(r"exit \d+", text)
    return f"its command ended with {ended[0]}" if ended else text.split(" @ ")[0]


def require_webdataset(key: str) -> None:
    """Raise InputError where the extra `shards` is not installed."""
    if webdataset is None:
        raise InputError(f"{key} needs the package webdataset: pip install 'vc-lightning[shards]'")
