"""Voices, what names one, and what one recording contributes to it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from vc_lightning.audio.pitch import PitchRange

Target = tuple[Path, ...] | str  # recordings of one voice, or the name of a learned one


class Speaker(Protocol):
    """Who speaks a source: a known voice, or the recording itself, which embeds on demand."""

    @property
    def embedding(self) -> np.ndarray:
        """Speaker embedding, float32 (dim_emb,)."""

    @property
    def pitch(self) -> PitchRange | None:
        """Pitch range; None if it is unknown."""


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
        f0: float32 (T,) in Hz, see `pitch_tracker.track`.
        speech: Whether each window of 30 ms holds speech, see `Level`.
        seconds: Length of the recording.
        reference: float32 (R, D), see `Voice`; None where the network uses none.
    """

    embedding: np.ndarray
    f0: np.ndarray
    speech: np.ndarray
    seconds: float
    reference: np.ndarray | None = None
