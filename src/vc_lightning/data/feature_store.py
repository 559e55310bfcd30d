"""The files of the feature cache: how they are named, read and written."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from vc_lightning.audio import io as audio
from vc_lightning.common.errors import InputError

INT16_SCALE = 32_767


@dataclass(frozen=True)
class Piece:
    """A stretch of a recording without long pauses at its ends; a short recording is one piece.

    Attributes:
        content: hash of the recording's bytes, which names the files of its features.
        index: which piece of the recording it is.
        start, n_frames: where its frames lie in the recording's mel file.
    """

    content: str
    index: int
    start: int
    n_frames: int


class FeatureFiles:
    """Reads features; small, so that it can be sent to the workers of a DataLoader.

    Features are named by what made them: `mels-<key>/<content>_<warp>.safetensors` holds `mel`
    (frames, n_mels), float16 (in 0…1 that rounds by at most 0.025 dB), and `spans` (n_pieces, 2),
    the frames of every piece; `voices-<key>/…` holds `embeddings` (n_pieces, embedding_size). The
    keys cover the mel settings or the speaker encoder, so that a change of one leaves the other.
    Copy 0 is the recording, copy i has its frequency axis stretched by the i-th warp.

    A vocoder also needs the sound, so hop_length is given for it: `wavs-<key>/…` holds `wav`,
    int16, hop_length samples a frame of the mel file. A converter that is told the pitch needs
    `pitches-<key>/…` with `f0`, float32, Hz, one a frame, and one that a teacher helps to train
    `teacher-<key>/…` with `features` (frames, D), float16; pitch_key and teacher_key name these
    and are None where they are not needed.
    """

    def __init__(
        self,
        root: Path,
        mel_key: str,
        voice_key: str,
        warps: Sequence[float],
        hop_length: int | None = None,
        pitch_key: str | None = None,
        teacher_key: str | None = None,
    ):
        self.mels = root / f"mels-{mel_key}"
        self.voices = root / f"voices-{voice_key}"
        self.wavs = root / f"wavs-{mel_key}"
        self.pitches = root / f"pitches-{pitch_key}"
        self.teachings = root / f"teacher-{teacher_key}"
        self.warps = [1.0, *warps]
        self.hop_length = hop_length
        self.with_f0 = pitch_key is not None
        self.with_teacher = teacher_key is not None

    def mel_file(self, content: str, copy: int) -> Path:
        """File of the mels of a recording's copy."""
        return self.mels / content[:2] / f"{content}_{self.warps[copy]:g}.safetensors"

    def voice_file(self, content: str, copy: int) -> Path:
        """File of the embeddings of a recording's copy."""
        return self.voices / content[:2] / f"{content}_{self.warps[copy]:g}.safetensors"

    def wav_file(self, content: str) -> Path:
        """File of the sound of a recording."""
        return self.wavs / content[:2] / f"{content}.safetensors"

    def pitch_file(self, content: str) -> Path:
        """File of the pitch of a recording."""
        return self.pitches / content[:2] / f"{content}.safetensors"

    def teacher_file(self, content: str) -> Path:
        """File of the teacher's features of a recording."""
        return self.teachings / content[:2] / f"{content}.safetensors"

    def read_mel(self, piece: Piece, start: int, stop: int, copy: int = 0) -> Tensor:
        """Frames start…stop of a piece's mel, float32 (n_mels, stop − start); maps nothing else."""
        with _opened(self.mel_file(piece.content, copy)) as file:
            return file.get_slice("mel")[piece.start + start : piece.start + stop].float().T

    def read_all_mels(self, content: str) -> Tensor:
        """The mels of all pieces of a recording, float32 (T, n_mels)."""
        with _opened(self.mel_file(content, 0)) as file:
            return file.get_tensor("mel").float()

    def read_wav(self, piece: Piece, start: int, stop: int) -> Tensor:
        """The sound of frames start…stop of a piece, float32 ((stop − start) · hop_length,)."""
        first, last = ((piece.start + frame) * self.hop_length for frame in (start, stop))
        with _opened(self.wav_file(piece.content)) as file:
            return file.get_slice("wav")[first:last].float() / INT16_SCALE

    def read_f0(self, piece: Piece, start: int, stop: int) -> Tensor:
        """F0 of frames start…stop of a piece, float32 (stop − start,) in Hz, 0 where unvoiced.

        All of it is 0 where the pitch is not kept.
        """
        if not self.with_f0:
            return torch.zeros(stop - start)
        with _opened(self.pitch_file(piece.content)) as file:
            return file.get_slice("f0")[piece.start + start : piece.start + stop]

    def read_teacher(self, piece: Piece, start: int, stop: int) -> Tensor:
        """The teacher's features of frames start…stop of a piece, float32 (stop − start, D).

        D is 0 where they are not kept.
        """
        if not self.with_teacher:
            return torch.zeros(stop - start, 0)
        with _opened(self.teacher_file(piece.content)) as file:
            return file.get_slice("features")[piece.start + start : piece.start + stop].float()

    def read_embedding(self, piece: Piece, copy: int = 0) -> Tensor:
        """The speaker embedding (embedding_size,) of a piece."""
        with _opened(self.voice_file(piece.content, copy)) as file:
            return file.get_slice("embeddings")[piece.index]

    def missing(self, name: Callable[[str, int], Path], content: str) -> list[int]:
        """The copies of a recording without a whole `mel_file` or `voice_file`, the `name`."""
        return [copy for copy in range(len(self.warps)) if not is_whole(name(content, copy))]

    def lacks_wav(self, content: str) -> bool:
        """Whether the sound of a recording is needed and not there."""
        return self.hop_length is not None and not is_whole(self.wav_file(content))

    def lacks_f0(self, content: str) -> bool:
        """Whether the pitch of a recording is needed and not there."""
        return self.with_f0 and not is_whole(self.pitch_file(content))

    def lacks_teacher(self, content: str) -> bool:
        """Whether the teacher's features of a recording are needed and not there."""
        return self.with_teacher and not is_whole(self.teacher_file(content))

    def pieces(self, content: str) -> list[Piece] | None:
        """The usable pieces of a recording; None when a file is missing or damaged."""
        if self.lacks_wav(content) or self.lacks_f0(content) or self.lacks_teacher(content):
            return None
        for copy in range(1, len(self.warps)):
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
            Piece(content, index, start, stop - start)
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
            f"{path}: this part of the feature cache has vanished or is damaged ({error}); "
            "start again, which rebuilds it"
        ) from error


def is_whole(path: Path) -> bool:
    """Whether a file of features is there and as long as its header says."""
    try:
        with safe_open(path, "numpy"):
            return True
    except (OSError, SafetensorError):
        return False


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes a file of features, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with audio.atomic_path(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)


def write_json(path: Path, content: dict) -> None:
    """Writes what is known of a recording, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with audio.atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content))


def read_json(path: Path) -> dict:
    """A JSON file's content; empty when it is missing or damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
