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
        reference: float32 (R, D), frames of its speech in random order, see `AutoVC.remember`; None
            if there are none, and conversions are less like the target.
    """

    embedding: np.ndarray
    pitch: PitchRange | None = None
    reference: np.ndarray | None = None


@dataclass(frozen=True)
class VoiceSample:
    """What one recording contributes to a voice.

    Attributes:
        embedding: float32 (dim_emb,).
        f0: float32 (T,) in Hz, see `pitch.track`.
        seconds: Length of the recording.
        reference: float32 (R, D), see `Voice`; None where the network uses none.
    """

    embedding: np.ndarray
    f0: np.ndarray
    seconds: float
    reference: np.ndarray | None = None


def require_reference(reference: np.ndarray, dim: int) -> np.ndarray:
    """Return a target's reference as float32.

    Raises:
        InputError: It does not have the shape (R, dim), or is not finite.
    """
    reference = np.asarray(reference, dtype=np.float32)
    if reference.ndim != 2 or reference.shape[1] != dim or not np.isfinite(reference).all():
        raise InputError(
            f"a voice's reference has shape {reference.shape}; give finite frames of {dim} numbers"
        )
    return reference


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
