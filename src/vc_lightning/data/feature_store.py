"""Files of the feature cache: names, reading and writing."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from vc_lightning.common.errors import InputError
from vc_lightning.common.files import atomic_path, read_json

INT16_SCALE = 32_767


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
    valid. Copy 0 is the recording; copy i is stretched by the i-th VTLP factor. Waveforms, pitch
    and teacher features are kept for copy 0 only.

    Args:
        root: Folder of the cache.
        mel_key: Key of the mels and waveforms.
        voice_key: Key of the embeddings.
        vtlp_factors: VTLP factors of copies 1, 2, …
        hop_length: Samples per frame.
        with_wavs: Whether waveforms are needed, as by a vocoder.
        pitch_key: Key of the pitch; None where it is not needed.
        teacher_key: Key of the teacher's features; None where they are not needed.
        heard_key: Key of the recogniser's features; None where no network listens through it.
    """

    def __init__(
        self,
        root: Path,
        mel_key: str,
        voice_key: str,
        vtlp_factors: Sequence[float],
        hop_length: int,
        with_wavs: bool = False,
        pitch_key: str | None = None,
        teacher_key: str | None = None,
        heard_key: str | None = None,
    ):
        self.mels = root / f"mels-{mel_key}"
        self.voices = root / f"voices-{voice_key}"
        self.wavs = root / f"wavs-{mel_key}"
        self.pitches = root / f"pitches-{pitch_key}"
        self.teacher_features = root / f"teacher-{teacher_key}"
        self.heard = root / f"heard-{heard_key}"
        self.factors = [1.0, *vtlp_factors]  # of copies 0, 1, …
        self.hop_length = hop_length
        self.with_wavs = with_wavs
        self.with_f0 = pitch_key is not None
        self.with_teacher = teacher_key is not None
        self.with_heard = heard_key is not None

    def mel_file(self, content: str, copy: int) -> Path:
        """Name the file of the mels of a recording's copy."""
        return self.mels / content[:2] / f"{content}_{self.factors[copy]:g}.safetensors"

    def voice_file(self, content: str, copy: int) -> Path:
        """Name the file of the embeddings of a recording's copy."""
        return self.voices / content[:2] / f"{content}_{self.factors[copy]:g}.safetensors"

    def wav_file(self, content: str) -> Path:
        """Name the file of the waveform of a recording."""
        return self.wavs / content[:2] / f"{content}.safetensors"

    def pitch_file(self, content: str) -> Path:
        """Name the file of the pitch of a recording."""
        return self.pitches / content[:2] / f"{content}.safetensors"

    def teacher_file(self, content: str) -> Path:
        """Name the file of the teacher's features of a recording."""
        return self.teacher_features / content[:2] / f"{content}.safetensors"

    def heard_file(self, content: str, copy: int) -> Path:
        """Name the file of the recogniser's features of a recording's copy."""
        return self.heard / content[:2] / f"{content}_{self.factors[copy]:g}.safetensors"

    def read_mel(self, segment: Segment, start: int, stop: int, copy: int = 0) -> Tensor:
        """Read frames start…stop of a segment's mel: float32 (n_mels, stop − start)."""
        with _opened(self.mel_file(segment.content, copy)) as file:
            return file.get_slice("mel")[segment.start + start : segment.start + stop].float().T

    def read_all_mels(self, content: str) -> Tensor:
        """Read the mels of all segments of a recording: float32 (T, n_mels)."""
        with _opened(self.mel_file(content, 0)) as file:
            return file.get_tensor("mel").float()

    def read_wav(self, segment: Segment, start: int, stop: int) -> Tensor:
        """Read the waveform of frames start…stop: float32 ((stop − start) · hop_length,)."""
        first, last = ((segment.start + frame) * self.hop_length for frame in (start, stop))
        with _opened(self.wav_file(segment.content)) as file:
            return file.get_slice("wav")[first:last].float() / INT16_SCALE

    def read_f0(self, segment: Segment, start: int, stop: int) -> Tensor:
        """Read the pitch of frames start…stop: float32 (stop − start,) in Hz, 0 where unvoiced.

        All values are 0 without a `pitch_key`.
        """
        if not self.with_f0:
            return torch.zeros(stop - start)
        with _opened(self.pitch_file(segment.content)) as file:
            return file.get_slice("f0")[segment.start + start : segment.start + stop]

    def read_teacher(self, segment: Segment, start: int, stop: int) -> Tensor:
        """Read the teacher's features of frames start…stop: float32 (stop − start, D).

        D is 0 without a `teacher_key`.
        """
        if not self.with_teacher:
            return torch.zeros(stop - start, 0)
        with _opened(self.teacher_file(segment.content)) as file:
            return file.get_slice("features")[segment.start + start : segment.start + stop].float()

    def read_heard(self, segment: Segment, start: int, stop: int, copy: int = 0) -> Tensor:
        """Read the recogniser's features of frames start…stop: float32 (D, stop − start).

        D is 0 without a `heard_key`.
        """
        if not self.with_heard:
            return torch.zeros(0, stop - start)
        with _opened(self.heard_file(segment.content, copy)) as file:
            span = slice(segment.start + start, segment.start + stop)
            return file.get_slice("features")[span].float().T

    def read_all_heard(self, content: str) -> np.ndarray:
        """Read the recogniser's features of all segments of a recording: float32 (T, D)."""
        with _opened(self.heard_file(content, 0)) as file:
            return file.get_tensor("features").float().numpy()

    def read_embedding(self, segment: Segment, copy: int = 0) -> Tensor:
        """Read the speaker embedding (E,) of a segment."""
        with _opened(self.voice_file(segment.content, copy)) as file:
            return file.get_slice("embeddings")[segment.index]

    def missing(self, name: Callable[[str, int], Path], content: str) -> list[int]:
        """List the copies of a recording whose file `name(content, copy)` is missing or damaged."""
        return [copy for copy in range(len(self.factors)) if not is_whole(name(content, copy))]

    def lacks_wav(self, content: str) -> bool:
        """Return whether the waveform of a recording is needed and missing."""
        return self.with_wavs and not is_whole(self.wav_file(content))

    def lacks_f0(self, content: str) -> bool:
        """Return whether the pitch of a recording is needed and missing."""
        return self.with_f0 and not is_whole(self.pitch_file(content))

    def lacks_teacher(self, content: str) -> bool:
        """Return whether the teacher's features of a recording are needed and missing."""
        return self.with_teacher and not is_whole(self.teacher_file(content))

    def segments(self, content: str) -> list[Segment] | None:
        """List the usable segments of a recording; None when a file is missing or damaged."""
        if self.lacks_wav(content) or self.lacks_f0(content) or self.lacks_teacher(content):
            return None
        if self.with_heard and self.missing(self.heard_file, content):
            return None
        for copy in range(1, len(self.factors)):
            if not is_whole(self.mel_file(content, copy)):
                return None
            if not is_whole(self.voice_file(content, copy)):
                return None
        try:
            with safe_open(self.mel_file(content, 0), "numpy") as file:
                spans = file.get_tensor("spans").tolist()
            with safe_open(self.voice_file(content, 0), "numpy") as file:
                has_voice = np.isfinite(file.get_tensor("embeddings")).all(axis=1)
        except (OSError, SafetensorError):
            return None
        return [
            Segment(content, index, start, stop - start)
            for index, (start, stop) in enumerate(spans)
            if stop > start and has_voice[index]
        ]


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
