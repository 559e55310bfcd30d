"""A recording that was analyzed once, for any number of conversions.

Long ones are processed in overlapping chunks, so that memory does not grow with their length.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vc_lightning.audio import pitch
from vc_lightning.audio.fading import faded
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.audio.voice_activity import Level
from vc_lightning.common.errors import InputError

FADE_SECONDS = 0.25  # cross-fade from one chunk's mel to the next one's
RecordingLike = Path | str | np.ndarray  # a file, or float samples (n,)


@dataclass(frozen=True)
class Recording:
    """A recording with everything that conversions need of it.

    Attributes:
        wav: float32 (n,) at the rate of the mels.
        level: Level and speech of `wav`.
        embed: Computes the speaker embedding.
        f0: float32 (T,) in Hz, see `pitch_tracker.track`.
        seconds: Length.
        chunks: The chunks in which the recording is converted.
        content: float32 (frames, C), what the content encoder reads: the mel, or what the
            recogniser hears where the network listens; for all frames of the first chunk, then of
            the second, and so on; neighbours share frames.
    """

    wav: np.ndarray
    level: Level
    embed: Callable[[], np.ndarray]
    f0: np.ndarray
    seconds: float
    chunks: list["Chunk"]
    content: np.ndarray

    @functools.cached_property
    def embedding(self) -> np.ndarray:
        """Embedding of the speaker, float32 (dim_emb,); few conversions need it.

        Raises:
            InputError: The recording holds too little speech.
        """
        return self.embed()

    @functools.cached_property
    def pitch(self) -> pitch.PitchRange | None:
        """The speaker's pitch range as this recording shows it."""
        return pitch.range_of([self.f0])

    @property
    def n_frames(self) -> int:
        """Number of frames of the recording's mel."""
        return self.chunks[-1].stop

    def parts(self) -> Iterator[tuple["Chunk", Tensor, np.ndarray]]:
        """Yield each chunk with its content (1, C, frames) and its pitch (frames,)."""
        first = 0
        for chunk in self.chunks:
            last = first + chunk.last - chunk.first
            content = torch.from_numpy(self.content[first:last]).t()[None]
            yield chunk, content, self.f0[chunk.first : chunk.last]
            first = last


@dataclass(frozen=True)
class Chunk:
    """A range of frames with context on both sides.

    Attributes:
        first: First frame that is processed.
        start: First frame that is kept.
        stop: End of the frames that are kept.
        last: End of the frames that are processed.
    """

    first: int
    start: int
    stop: int
    last: int


def split_into_chunks(n_frames: int, length: int, context: int) -> list[Chunk]:
    """Split a recording into chunks.

    Args:
        n_frames: Frames of the recording.
        length: Frames that a chunk keeps; the last chunk may keep fewer, or up to `context` more.
        context: Frames processed on both sides of a chunk, where the recording has them.
    """
    starts = [0, *range(length, n_frames - context, length)]
    stops = [*starts[1:], n_frames]
    return [
        Chunk(max(0, start - context), start, stop, min(stop + context, n_frames))
        for start, stop in zip(starts, stops, strict=True)
    ]


def cross_fade(parts: Iterable[tuple[Chunk, Tensor]], fade: int) -> Iterator[Tensor]:
    """Join chunks; the `fade` frames before each start are faded from one chunk to the next.

    Args:
        parts: Chunks in order, with their values (…, last − first).
        fade: Length of a cross-fade in frames, at most the context of the chunks.

    Yields:
        Pieces (…, n) that follow one another.
    """
    held = None  # the previous chunk's tail
    for chunk, values in parts:
        if held is not None:
            begin = chunk.start - chunk.first - fade
            fading = faded(held, values[..., begin : begin + fade])
            values = torch.cat([fading, values[..., begin + fade :]], dim=-1)
            stop = chunk.stop - chunk.start + fade
        else:
            stop = chunk.stop - chunk.first
        values = values[..., :stop]
        if chunk.stop == chunk.last:
            yield values
            return
        held = values[..., stop - fade :]
        yield values[..., : stop - fade]


def whole_codes(seconds: float, mel: MelSpectrogram, freq: int) -> int:
    """Convert seconds to frames of a mel, rounded up to whole codes of `freq` frames."""
    return freq * math.ceil(seconds * mel.sample_rate / mel.hop_length / freq)


@contextlib.contextmanager
def prefix_errors(recording: RecordingLike) -> Iterator[None]:
    """Put a recording's path at the beginning of an InputError raised inside."""
    try:
        yield
    except InputError as error:
        if isinstance(recording, np.ndarray):
            raise
        raise InputError(f"{recording}: {error}") from None
