"""Long recordings in overlapping chunks, so that memory does not grow with their length."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


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
            weight = torch.linspace(0, 1, fade, device=values.device)
            fading = torch.lerp(held, values[..., begin : begin + fade], weight)
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
