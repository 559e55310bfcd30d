"""Teachers of the content encoder: frozen networks whose features describe what is spoken.

A teacher is any object with the attributes of `Teacher`; `conf/teacher/` lists those that come
with the project. `docs/teachers.md` shows how to use another one, such as WavLM or HuBERT.
"""

import functools
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vc_lightning.audio.spill_buffer import blocks
from vc_lightning.common.errors import InputError
from vc_lightning.models import recogniser, whisper

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

INSTALL = "pip install 'vc-lightning[teach]'"


class Teacher(Protocol):
    """Interface of a teacher.

    Attributes:
        identity: A name that changes with the weights; it is part of the key of cached features.
        sample_rate: Sample rate of its input in Hz.
        frame_rate: Frame rate of its features in Hz; frame t is centred on t / frame_rate seconds.
    """

    identity: str
    sample_rate: int
    frame_rate: float

    def features(self, wav: np.ndarray) -> np.ndarray:
        """Compute features (T, D), float32, of a recording wav (n,), float32."""


class WhisperTeacher:
    """The encoder of Whisper (Radford et al. 2022, arXiv 2212.04356), run by CTranslate2.

    Args:
        model: "tiny.en", which comes with the extra `teach`, another model's name or a folder,
            see `whisper.model_folder`.

    Raises:
        InputError: The model or its packages are missing.
    """

    sample_rate = recogniser.SAMPLE_RATE
    frame_rate = recogniser.FRAME_RATE

    def __init__(self, model: str):
        try:
            self.folder = whisper.model_folder(model, "teacher.model")
        except ImportError as error:
            raise InputError(
                f"teacher.model={model}: {error.name} is missing; {INSTALL}"
            ) from error
        weights = self.folder / "model.bin"
        if not weights.is_file():
            raise InputError(
                f"teacher.model={model}: holds no model.bin; convert it for CTranslate2"
            )
        with weights.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=4))
        self.identity = f"whisper-{digest.hexdigest()}"

    def features(self, wav: np.ndarray) -> np.ndarray:
        """Compute features (T, D), float32, 50 a second, of a recording wav (n,) at 16 kHz.

        Longer recordings than 30 s are cut, see `stretch_samples`.
        """
        model = _whisper(self.folder)
        stretches = blocks(wav, recogniser.stretch_samples(len(wav)))
        mels = (model.feature_extractor(stretch, padding=0) for stretch in stretches)
        return np.concatenate([np.array(model.encode(mel))[0] for mel in mels])


@functools.cache
def _whisper(folder: Path) -> "WhisperModel":
    """Load the model, once in each process that computes features.

    int8 weights halve the time; the correlation with the features of float weights is 0.999.
    """
    try:
        from faster_whisper import WhisperModel

        return WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1)
    except ImportError as error:
        raise InputError(f"teacher: {error.name} is missing; {INSTALL}") from error
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"teacher.model={folder}: cannot be loaded ({error})") from error


def features_at_frames(
    teacher: Teacher, wav: np.ndarray, n_frames: int, frames_per_second: float
) -> np.ndarray:
    """Interpolate a teacher's features at the frames of a mel and subtract their mean.

    The mean is subtracted because it depends on speaker and microphone more than on the words.

    Args:
        teacher: The teacher.
        wav: float32 (n,) at the teacher's rate.
        n_frames: Frames of the mel; frame t is centred on t / frames_per_second seconds.
        frames_per_second: Frame rate of the mel in Hz.

    Returns:
        float32 (n_frames, D).
    """
    features = teacher.features(wav)
    features = features - features.mean(axis=0)
    return recogniser.interpolate(features, teacher.frame_rate, n_frames, frames_per_second)
