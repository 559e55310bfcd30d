"""Files of the feature cache: names, reading and writing."""

import contextlib
import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from vc_lightning.audio.checks import acoustics
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import atomic_path, read_json

INT16_SCALE = 32_767
OF_EVERY_COPY = ("mels", "voices", "heard")  # the other features are of the recording alone
ARRAYS = {  # the array of each feature's files; those of mels hold `spans` as well
    "mels": "mel",
    "voices": "embeddings",
    "wavs": "wav",
    "pitches": "f0",
    "teacher": "features",
    "heard": "features",
}


@dataclass(frozen=True)
class Segment:
    """A part of a long recording, cut at pauses; a short recording is one segment.

    Attributes:
        content: Hash of the recording's bytes, which names the files of its features.
        index: Number of the segment in its recording.
        start: First frame of the segment in the recording's mel file.
        n_frames: Number of frames.
    """

    content: str
    index: int
    start: int
    n_frames: int


class FeatureFiles:
    """Names and reads the files of cached features.

    It holds paths only, so that it is cheap to send to the workers of a DataLoader. There is one
    file per recording and copy, in a folder whose name contains a hash (key) of the settings:

    - `mels-<key>/<xx>/<content>_<factor>.safetensors`: `mel` (frames, n_mels), float16 (rounding
      costs at most 0.025 dB), and `spans` (n_segments, 2), start and stop of each segment.
    - `voices-<key>/…`: `embeddings` (n_segments, E).
    - `wavs-<key>/…`: `wav`, int16, hop_length samples per frame of the mel file.
    - `pitches-<key>/…`: `f0` (frames,), float32, in Hz.
    - `teacher-<key>/…`: `features` (frames, D), float16.
    - `heard-<key>/<xx>/<content>_<factor>.safetensors`: `features` (frames, D), float16, of a
      recogniser that a network listens through.

    A key covers only the settings of its own feature: changing them leaves the other features
    valid. Copy 0 is the recording; copy i is stretched by the i-th VTLP factor; `with_conversions`
    adds one in another voice. Waveforms, pitch and teacher features are kept for copy 0 only.

    Args:
        root: Folder of the cache.
        keys: Key of each feature that is needed: "mels", "voices" and perhaps "wavs", "pitches",
            "teacher", "heard".
        vtlp_factors: VTLP factors of copies 1, 2, …
        hop_length: Samples per frame.
    """

    def __init__(
        self, root: Path, keys: Mapping[str, str], vtlp_factors: Sequence[float], hop_length: int
    ):
        self.root = root
        self.folders = {feature: root / f"{feature}-{key}" for feature, key in keys.items()}
        self.factors = [1.0, *vtlp_factors]  # of copies 0, 1, …
        self.converted_by = ""  # name of the weights that converted the last copy
        self.hop_length = hop_length

    def with_conversions(self, converted_by: str) -> "FeatureFiles":
        """Return the same with one more copy, converted into another voice by some weights."""
        files = copy.copy(self)
        files.converted_by = converted_by
        return files

    @property
    def converted(self) -> int:
        """The copy that is converted into another voice."""
        return len(self.factors)

    def has(self, feature: str) -> bool:
        """Return whether a feature is needed, and so is there."""
        return feature in self.folders

    def path(self, feature: str, content: str, copy: int = 0) -> Path:
        """Name the file of a feature of a recording's copy."""
        name = content
        if feature in OF_EVERY_COPY:
            is_converted = copy == self.converted
            name += f"_{self.converted_by}" if is_converted else f"_{self.factors[copy]:g}"
        return self.folders[feature] / content[:2] / f"{name}.safetensors"

    def missing(self, feature: str, content: str, first: int = 0) -> list[int]:
        """List the copies of a recording whose file of a feature is needed, and missing or damaged.

        Args:
            feature: A feature, needed or not.
            content: Hash of the recording.
            first: First copy to look for.
        """
        if not self.has(feature):
            return []
        copies = range(first, len(self.factors) if feature in OF_EVERY_COPY else 1)
        return [copy for copy in copies if not is_whole(self.path(feature, content, copy))]

    def of(self, segment: Segment, embeddings: Tensor | None = None) -> "CachedFeatures":
        """Return the features of a segment; see `CachedFeatures`."""
        return CachedFeatures(self, segment, embeddings)

    def read_whole(self, feature: str, content: str) -> Tensor:
        """Read a feature of all segments of a recording: float32 (T, …)."""
        with _opened(self.path(feature, content)) as file:
            return file.get_tensor(ARRAYS[feature]).float()

    def segments(self, content: str) -> list[Segment] | None:
        """List the usable segments of a recording; None when a file is missing or damaged."""
        first = {"mels": 1, "voices": 1}  # their copies 0 are read below
        if any(self.missing(name, content, first.get(name, 0)) for name in self.folders):
            return None
        try:
            with safe_open(self.path("mels", content), "numpy") as file:
                spans = file.get_tensor("spans").tolist()
            with safe_open(self.path("voices", content), "numpy") as file:
                has_voice = np.isfinite(file.get_tensor(ARRAYS["voices"])).all(axis=1)
        except (OSError, SafetensorError):
            return None
        return [
            Segment(content, index, start, stop - start)
            for index, (start, stop) in enumerate(spans)
            if stop > start and has_voice[index]
        ]


class UtteranceFeatures:
    """Features of an utterance and its copies; copy 0 is the recording itself.

    `CachedFeatures` reads those of the feature cache, `Sample` holds those of a shard.
    """

    @property
    def n_frames(self) -> int:
        """Number of frames T."""
        raise NotImplementedError

    def read(self, feature: str, start: int, stop: int, copy: int = 0) -> Tensor:
        """Read frames start…stop of a feature of `FeatureFiles`: float32 (stop − start, …)."""
        raise NotImplementedError

    def read_embedding(self, copy: int = 0) -> Tensor:
        """Read the speaker embedding (E,) of a copy."""
        raise NotImplementedError

    def read_mel(self, start: int, stop: int, copy: int = 0) -> Tensor:
        """Read frames start…stop of the mel: float32 (n_mels, stop − start)."""
        return self.read("mels", start, stop, copy).T

    def read_f0(self, start: int, stop: int) -> Tensor:
        """Read the pitch (stop − start,) in Hz: 0 where unvoiced, all 0 where it is not needed."""
        return self.read("pitches", start, stop)

    def read_teacher(self, start: int, stop: int) -> Tensor:
        """Read the teacher's features (stop − start, D); D is 0 without a teacher."""
        return self.read("teacher", start, stop)

    def read_heard(self, start: int, stop: int, copy: int = 0) -> Tensor:
        """Read the recogniser's features (D, stop − start); D is 0 where a network reads mels."""
        return self.read("heard", start, stop, copy).T

    @functools.cached_property
    def acoustics(self) -> Tensor:
        """Acoustics (N_ACOUSTICS,) of the utterance, see `acoustics.describe`."""
        return acoustics.describe(self.read_mel(0, self.n_frames))


@dataclass(frozen=True, eq=False)
class CachedFeatures(UtteranceFeatures):
    """Reads the features of a segment, and of its copies.

    Attributes:
        files: Names the files.
        segment: The segment.
        embeddings: Speaker embeddings (n_copies, E) in place of the segment's own; a conversion
            keeps that of its voice.
    """

    files: FeatureFiles
    segment: Segment
    embeddings: Tensor | None = None

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.segment.n_frames

    def read(
        self, feature: str, start: int, stop: int, copy: int = 0, values_per_frame: int = 1
    ) -> Tensor:
        """Read frames start…stop of a feature; zeros where it is not needed."""
        if not self.files.has(feature):
            return torch.zeros((stop - start,) if feature == "pitches" else (stop - start, 0))
        first, last = (values_per_frame * (self.segment.start + frame) for frame in (start, stop))
        with _opened(self.files.path(feature, self.segment.content, copy)) as file:
            return file.get_slice(ARRAYS[feature])[first:last].float()

    def read_wav(self, start: int, stop: int) -> Tensor:
        """Read the waveform of frames start…stop: float32 ((stop − start) · hop_length,)."""
        return self.read("wavs", start, stop, 0, self.files.hop_length) / INT16_SCALE

    def read_embedding(self, copy: int = 0) -> Tensor:
        """Read the speaker embedding (E,) of a copy."""
        if self.embeddings is not None and copy < len(self.embeddings):
            return self.embeddings[copy]
        with _opened(self.files.path("voices", self.segment.content, copy)) as file:
            return file.get_slice(ARRAYS["voices"])[self.segment.index]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path}: this file of the feature cache is missing or damaged ({error}); "
            "start again to rebuild it"
        ) from error


def is_whole(path: Path) -> bool:
    """Return whether a feature file exists and is as long as its header says."""
    try:
        with safe_open(path, "numpy"):
            return True
    except (OSError, SafetensorError):
        return False


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a feature file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)


def read_json_or_empty(path: Path) -> dict:
    """Read a JSON file; {} when it is missing or damaged."""
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
