"""Batched generation: cut a long mel into overlapping folds, run them as one batch, join them.

An autoregressive vocoder is slow on one long mel and fast on a batch of short ones. Every fold
starts from silence and first generates the end of the previous fold again, as a warm-up. In this
overlap the two are aligned by cross-correlation (as in WSOLA), by at most MAX_LAG, and cross-faded.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from vc_lightning.models.vocoders.wavernn.recurrent import RecurrentVocoder

FOLD_FRAMES = (12, 48)  # fewest and most new frames of a fold
STREAM_FRAMES = (8, 48)  # the same for streams
MANY_FOLDS = 64  # beyond so many folds, longer folds are faster than more folds
MAX_FOLDS = 128
STREAM_FOLDS = 8  # in the first batch of a stream
OVERLAP = 4  # frames that two folds share: MAX_LAG, FADE, and the rest as warm-up
MAX_LAG = 0.75  # frames: 9 to 12 ms, more than half a period of a low voice
FADE = 1  # frame: about a period of a low voice
LAG_COST = 0.2  # subtracted from the correlation at the largest lag, so that noise is not moved


def generate(
    vocoder: "RecurrentVocoder", mel: Tensor, seed: int, fold_frames: tuple[int, int] = FOLD_FRAMES
) -> Tensor:
    """Generate the sound of mels.

    Args:
        vocoder: The vocoder.
        mel: Mels (B, n_mels, T). All get the same noise, so the result does not depend on B.
        seed: Seed of the noise.
        fold_frames: Fewest and most new frames of a fold; (T, T) generates one fold.

    Returns:
        Samples (B, T·hop).
    """
    return torch.cat(list(_pieces(vocoder, mel, seed, *fold_frames, growing=False)), dim=1)


def stream(
    vocoder: "RecurrentVocoder",
    mel: Tensor,
    seed: int,
    fold_frames: tuple[int, int] = STREAM_FRAMES,
) -> Iterator[Tensor]:
    """Generate the sound of mels in pieces, with bounded memory.

    The first batches have few and short folds, so that the first piece is ready early. The
    arguments are those of `generate`.

    Yields:
        Consecutive samples (B, n), together (B, T·hop).
    """
    return _pieces(vocoder, mel, seed, *fold_frames, growing=True)


@torch.inference_mode()
def _pieces(
    vocoder: "RecurrentVocoder", mel: Tensor, seed: int, shortest: int, longest: int, growing: bool
) -> Iterator[Tensor]:
    n_samples = mel.shape[-1] * vocoder.hop_length
    folds = run_batches(vocoder, mel, seed, shortest, longest, growing)
    for piece in splice(folds, vocoder.hop_length):
        yield piece[:, :n_samples]
        n_samples -= piece.shape[1]


def run_batches(
    vocoder: "RecurrentVocoder", mel: Tensor, seed: int, shortest: int, longest: int, growing: bool
) -> Iterator[Tensor]:
    """Generate the folds that cover mels, in batches of folds of equal length.

    A fold has OVERLAP frames more than it adds; the last one has one frame for the alignment.

    Args:
        vocoder: The vocoder.
        mel: Mels (B, n_mels, T).
        seed: See `generate`.
        shortest: Fewest new frames of a fold.
        longest: Most new frames of a fold.
        growing: Whether to start with few and short folds, see `stream`.

    Yields:
        Samples of the folds (B, n), in the order of time.
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
        padded = length + 2 * vocoder.pad
        folds = cut(mel, start - vocoder.pad, stop + vocoder.pad).unfold(-1, padded, frames)
        seeds = torch.randint(2**32, (n_folds,), generator=master).tolist()
        noise = [torch.Generator().manual_seed(number) for _ in range(batch) for number in seeds]
        wavs = vocoder.recur(folds.transpose(1, 2).flatten(0, 1), noise)
        yield from wavs.unflatten(0, (batch, n_folds)).unbind(1)
        start += n_folds * frames
        max_frames, max_folds = min(longest, 2 * max_frames), min(MAX_FOLDS, 2 * max_folds)


def cut(mel: Tensor, start: int, stop: int) -> Tensor:
    """Cut frames start to stop out of mel (B, n_mels, T), with zeros beyond its ends."""
    n_frames = mel.shape[-1]
    inside = mel[..., max(start, 0) : min(stop, n_frames)]
    return F.pad(inside, (max(-start, 0), max(stop - n_frames, 0)))


def splice(folds: Iterable[Tensor], hop_length: int) -> Iterator[Tensor]:
    """Align and cross-fade folds.

    Every fold is moved relative to its own place in time, so the lags do not accumulate.

    Args:
        folds: Samples (B, n) of folds that share OVERLAP frames with the next one.
        hop_length: Samples per frame.

    Yields:
        Consecutive samples (B, m).
    """
    max_lag, fade = int(MAX_LAG * hop_length), FADE * hop_length
    begin = OVERLAP * hop_length - max_lag - fade  # where the fade starts in the new fold
    folds = iter(folds)
    current = next(folds)
    for fold in folds:
        current = current[:, : current.shape[1] - max_lag]
        ending = current[:, -fade:]
        candidates = fold[:, begin - max_lag : begin + fade + max_lag].unfold(1, fade, 1)
        lag, correlation = best_match(ending, candidates)
        fold = shift(fold[:, begin - max_lag :], lag, fold.shape[1] - begin)
        yield current[:, :-fade]
        mixed = fade_at_constant_power(ending, fold[:, :fade], correlation)
        current = torch.cat([mixed, fold[:, fade:]], dim=1)
    yield current


def best_match(ending: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Find the candidate with the highest correlation with an ending, less LAG_COST for the lag.

    Args:
        ending: Samples (B, n).
        candidates: Samples (B, 2·max_lag + 1, n), one row per lag.

    Returns:
        Index (B,), the middle one where all are alike, and its correlation (B,) in 0…1.
    """
    products = torch.linalg.vecdot(candidates, ending[:, None])
    energies = candidates.square().sum(-1) * ending.square().sum(-1, keepdim=True)
    correlation = products / energies.clamp(min=1e-12).sqrt()
    lags = torch.linspace(-1, 1, correlation.shape[1], device=ending.device, dtype=ending.dtype)
    index = (correlation - LAG_COST * lags.abs()).argmax(dim=1, keepdim=True)
    return index[:, 0], correlation.gather(1, index)[:, 0].clamp(0, 1)


def shift(wav: Tensor, lag: Tensor, n_samples: int) -> Tensor:
    """Cut n_samples from wav (B, n) at sample lag (B,) on; repeat the last sample at the end."""
    index = torch.arange(n_samples, device=wav.device) + lag[:, None]
    return wav.gather(1, index.clamp(max=wav.shape[1] - 1))


def fade_at_constant_power(ending: Tensor, beginning: Tensor, correlation: Tensor) -> Tensor:
    """Cross-fade two sounds at constant power.

    Args:
        ending: Samples (B, n) to fade out.
        beginning: Samples (B, n) to fade in.
        correlation: Their correlation (B,), on which the power of their sum depends.
    """
    weight = torch.linspace(0, 1, ending.shape[1], device=ending.device, dtype=ending.dtype)
    power = 1 - 2 * weight * (1 - weight) * (1 - correlation[:, None])
    return (torch.lerp(ending, beginning, weight) / power.sqrt()).clamp(-1, 1)
