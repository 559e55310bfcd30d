"""Long mels as many short segments that a vocoder runs side by side, joined without a seam.

A vocoder that goes on from sample to sample is slow on one long mel and fast on many short ones.
Each segment begins from silence in what the one before has said already; once it has warmed up
it is moved by up to most of a frame to where it continues the other's wave, and faded in there.
"""

from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

FOLD_FRAMES = (12, 48)  # bounds of what a segment adds to the sound
STREAM_FRAMES = (8, 48)
MANY_FOLDS = 64  # segments of a batch: with more, longer ones are the better use of the time
MAX_FOLDS = 128
STREAM_FOLDS = 8  # of the first batch of a stream
OVERLAP = 4  # frames that a segment shares with the next: what MAX_LAG and FADE leave warms up
MAX_LAG = 0.75  # frames: 9 to 12 ms, more than half a period of a low voice
FADE = 1  # frame: about a period of a low voice
LAG_COST = 0.2  # of correlation, for the largest lag: noise, alike anywhere, stays in its place


class Recurrent(Protocol):
    """A vocoder that goes from sample to sample."""

    pad: int  # frames of context that its mels need on each side
    hop_length: int

    def recur(self, mel: Tensor, noise: list[torch.Generator]) -> Tensor:
        """Padded mels (S, n_mels, N + 2·pad), a source of noise each -> wavs (S, N·hop)."""


def generate(
    vocoder: Recurrent, mel: Tensor, seed: int, fold_frames: tuple[int, int] = FOLD_FRAMES
) -> Tensor:
    """mel (B, n_mels, T) -> wav (B, T·hop); mels of a batch get the same noise, as if alone.

    `fold_frames` are the least and the most that a segment adds; (T, T) makes it one segment.
    """
    return torch.cat(list(_pieces(vocoder, mel, seed, *fold_frames, growing=False)), dim=1)


def stream(
    vocoder: Recurrent, mel: Tensor, seed: int, fold_frames: tuple[int, int] = STREAM_FRAMES
) -> Iterator[Tensor]:
    """mel (B, n_mels, T) -> pieces of wav (B, n), together (B, T·hop), in bounded memory.

    It begins with few and short segments, so that the first piece comes early.
    """
    return _pieces(vocoder, mel, seed, *fold_frames, growing=True)


@torch.inference_mode()
def _pieces(
    vocoder: Recurrent, mel: Tensor, seed: int, shortest: int, longest: int, growing: bool
) -> Iterator[Tensor]:
    n_samples = mel.shape[-1] * vocoder.hop_length
    segments = run_groups(vocoder, mel, seed, shortest, longest, growing)
    for piece in splice(segments, vocoder.hop_length):
        yield piece[:, :n_samples]
        n_samples -= piece.shape[1]


def run_groups(
    vocoder: Recurrent, mel: Tensor, seed: int, shortest: int, longest: int, growing: bool
) -> Iterator[Tensor]:
    """The segments (B, n) that cover a mel (B, n_mels, T), run in groups of equal length.

    Their mels run on for OVERLAP frames, the last of which is room to move.
    """
    master = torch.Generator().manual_seed(seed)
    batch, _, n_frames = mel.shape
    max_frames, max_folds = (shortest, STREAM_FOLDS) if growing else (longest, MAX_FOLDS)
    start = 0
    while start == 0 or start + OVERLAP - 1 < n_frames:
        remaining = n_frames - start
        frames = min(max_frames, max(shortest, -(-remaining // MANY_FOLDS)))
        n_folds = min(max_folds, max(1, -(-(remaining - OVERLAP + 1) // frames)))
        length = min(frames + OVERLAP, remaining + 1)
        stop = start + (n_folds - 1) * frames + length
        window = length + 2 * vocoder.pad
        segments = cut(mel, start - vocoder.pad, stop + vocoder.pad).unfold(-1, window, frames)
        seeds = torch.randint(2**32, (n_folds,), generator=master).tolist()
        noise = [torch.Generator().manual_seed(number) for _ in range(batch) for number in seeds]
        wavs = vocoder.recur(segments.transpose(1, 2).flatten(0, 1), noise)
        yield from wavs.unflatten(0, (batch, n_folds)).unbind(1)
        start += n_folds * frames
        max_frames, max_folds = min(longest, 2 * max_frames), min(MAX_FOLDS, 2 * max_folds)


def cut(mel: Tensor, start: int, stop: int) -> Tensor:
    """Frames start to stop of a mel (B, n_mels, T), zeros outside of it."""
    n_frames = mel.shape[-1]
    inside = mel[..., max(start, 0) : min(stop, n_frames)]
    return F.pad(inside, (max(-start, 0), max(stop - n_frames, 0)))


def splice(segments: Iterable[Tensor], hop_length: int) -> Iterator[Tensor]:
    """Joins segments (B, n) whose last OVERLAP frames are the next one's first.

    Each is moved against its own place in time, not against the one before: nothing adds up.
    """
    max_lag, fade = int(MAX_LAG * hop_length), FADE * hop_length
    begin = OVERLAP * hop_length - max_lag - fade  # of the fade, in the segment that is faded in
    segments = iter(segments)
    current = next(segments)
    for segment in segments:
        current = current[:, : current.shape[1] - max_lag]
        ending = current[:, -fade:]
        candidates = segment[:, begin - max_lag : begin + fade + max_lag].unfold(1, fade, 1)
        lag, likeness = best_match(ending, candidates)
        segment = shift(segment[:, begin - max_lag :], lag, segment.shape[1] - begin)
        yield current[:, :-fade]
        mixed = cross_fade(ending, segment[:, :fade], likeness)
        current = torch.cat([mixed, segment[:, fade:]], dim=1)
    yield current


def best_match(ending: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Which of some pieces (B, 2·max_lag + 1, n) is most like an ending (B, n), and how much.

    Returns: index (B,), the middle one where all are alike, and correlation (B,) in 0…1.
    """
    products = torch.linalg.vecdot(candidates, ending[:, None])
    energies = candidates.square().sum(-1) * ending.square().sum(-1, keepdim=True)
    correlation = products / energies.clamp(min=1e-12).sqrt()
    lags = torch.linspace(-1, 1, correlation.shape[1], device=ending.device, dtype=ending.dtype)
    index = (correlation - LAG_COST * lags.abs()).argmax(dim=1, keepdim=True)
    return index[:, 0], correlation.gather(1, index)[:, 0].clamp(0, 1)


def shift(wav: Tensor, lag: Tensor, n_samples: int) -> Tensor:
    """wav (B, n) from sample lag (B,) on -> (B, n_samples), the end completed by its last value."""
    index = torch.arange(n_samples, device=wav.device) + lag[:, None]
    return wav.gather(1, index.clamp(max=wav.shape[1] - 1))


def cross_fade(ending: Tensor, beginning: Tensor, likeness: Tensor) -> Tensor:
    """Goes from one wav (B, n) to another at constant power, whatever their correlation (B,) is."""
    weight = torch.linspace(0, 1, ending.shape[1], device=ending.device, dtype=ending.dtype)
    power = 1 - 2 * weight * (1 - weight) * (1 - likeness[:, None])
    return (torch.lerp(ending, beginning, weight) / power.sqrt()).clamp(-1, 1)
