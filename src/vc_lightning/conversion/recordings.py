"""Inputs of a conversion: analyzed recordings and voices."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vc_lightning.audio import pitch
from vc_lightning.audio.pitch import PitchRange
from vc_lightning.common.errors import InputError

Recording = Path | str | np.ndarray


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
class AnalyzedRecording:
    """A recording with its level, speaker embedding and pitch.

    Attributes:
        wav: float32 (n,) at the converter's rate.
        gain_db: Gain in dB that brings `wav` to the level of the mels.
        embedding: float32 (dim_emb,), of the speaker.
        f0: float32 (T,) in Hz, see `pitch.track`; None if it was not tracked.
    """

    wav: np.ndarray
    gain_db: float
    embedding: np.ndarray
    f0: np.ndarray | None = None

    @functools.cached_property
    def voice(self) -> Voice:
        """The speaker's voice as this recording shows it."""
        return Voice(self.embedding, None if self.f0 is None else pitch.range_of([self.f0]))


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


@contextlib.contextmanager
def prefix_errors(recording: Recording) -> Iterator[None]:
    """Put a recording's path at the beginning of an InputError raised inside."""
    try:
        yield
    except InputError as error:
        if isinstance(recording, np.ndarray):
            raise
        raise InputError(f"{recording}: {error}") from None
