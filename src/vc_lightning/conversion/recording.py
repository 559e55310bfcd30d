"""A recording that was analyzed once, for any number of conversions."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vc_lightning.audio import pitch
from vc_lightning.audio.voice_activity import Level
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.chunking import Chunk
from vc_lightning.conversion.voices.voice import Voice

RecordingLike = Path | str | np.ndarray  # a file, or float samples (n,)


@dataclass(frozen=True)
class Recording:
    """A recording with everything that conversions need of it.

    Attributes:
        wav: float32 (n,) at the rate of the mels.
        level: Level and speech of `wav`.
        embedding: float32 (dim_emb,), of the speaker.
        f0: float32 (T,) in Hz, see `pitch.track`.
        seconds: Length.
        chunks: The chunks in which the recording is converted.
        content: float32 (frames, C), what the content encoder reads: the mel, or what the
            recogniser hears where the network listens; for all frames of the first chunk, then of
            the second, and so on; neighbours share frames.
    """

    wav: np.ndarray
    level: Level
    embedding: np.ndarray
    f0: np.ndarray
    seconds: float
    chunks: list[Chunk]
    content: np.ndarray

    @functools.cached_property
    def voice(self) -> Voice:
        """The speaker's voice as this recording shows it."""
        return Voice(self.embedding, pitch.range_of([self.f0]))

    @property
    def n_frames(self) -> int:
        """Number of frames of the recording's mel."""
        return self.chunks[-1].stop

    def parts(self) -> Iterator[tuple[Chunk, np.ndarray, np.ndarray]]:
        """Yield each chunk with its content (frames, C) and its pitch (frames,)."""
        first = 0
        for chunk in self.chunks:
            last = first + chunk.last - chunk.first
            yield chunk, self.content[first:last], self.f0[chunk.first : chunk.last]
            first = last


@contextlib.contextmanager
def prefix_errors(recording: RecordingLike) -> Iterator[None]:
    """Put a recording's path at the beginning of an InputError raised inside."""
    try:
        yield
    except InputError as error:
        if isinstance(recording, np.ndarray):
            raise
        raise InputError(f"{recording}: {error}") from None
