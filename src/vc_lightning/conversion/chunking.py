"""Long recordings as chunks that overlap, so that a network of any reach needs bounded memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Chunk:
    """Frames `first` to `last` are looked at, those from `start` to `stop` are kept."""

    first: int
    start: int
    stop: int
    last: int


def split_into_chunks(n_frames: int, length: int, context: int) -> list[Chunk]:
    """Chunks that keep `length` frames each, with up to `context` frames to both sides.

    What is hardly longer than one is one; the last one may keep more or fewer frames.
    """
    starts = [0, *range(length, n_frames - context, length)]
    stops = [*starts[1:], n_frames]
    return [
        Chunk(max(0, start - context), start, stop, min(stop + context, n_frames))
        for start, stop in zip(starts, stops, strict=True)
    ]


def cross_fade(parts: Iterable[tuple[Chunk, Tensor]], fade: int) -> Iterator[Tensor]:
    """What chunks keep of their values (…, last − first), in a row.

    Before the start of a chunk its values fade in, `fade` frames long, over those of the chunk
    before.
    """
    held = None
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
