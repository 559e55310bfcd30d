"""Voices, and what one recording contributes to a voice."""

from dataclasses import dataclass

import numpy as np

from vc_lightning.audio.pitch import PitchRange
from vc_lightning.common.errors import InputError


@dataclass(frozen=True)
class Voice:
    """A speaker's voice.

    Attributes:
        embedding: float32 (dim_emb,), the mean of the recordings' embeddings.
        pitch: Pitch range of the voice; None if it is unknown.
    """

    embedding: np.ndarray
    pitch: PitchRange | None = None


@dataclass(frozen=True)
class VoiceSample:
    """What one recording contributes to a voice.

    Attributes:
        embedding: float32 (dim_emb,).
        f0: float32 (T,) in Hz, see `pitch.track`.
        seconds: Length of the recording.
    """

    embedding: np.ndarray
    f0: np.ndarray
    seconds: float


def require_embedding(embedding: np.ndarray, dim_emb: int) -> np.ndarray:
    """Return a target's embedding as float32.

    Raises:
        InputError: It does not have the shape (dim_emb,), or is not finite.
    """
    embedding = np.asarray(embedding, dtype=np.float32)
    if embedding.shape != (dim_emb,) or not np.isfinite(embedding).all():
        raise InputError(
            f"a voice's embedding has shape {embedding.shape}; give {dim_emb} finite numbers"
        )
    return embedding
