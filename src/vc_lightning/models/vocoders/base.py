"""The interface of vocoders, and how mels of any length are turned into sound."""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vc_lightning.audio.spill_buffer import SpillBuffer
from vc_lightning.common.progress import Progress, no_progress

PAST_FRAMES = 8  # mel frames before the new ones that a streaming vocoder also gets


class StreamVocoder(Protocol):
    """Interface of a vocoder for a mel that arrives in steps."""

    def step(self, mel: Tensor, n_past: int, n_new: int, n_hops: int) -> Tensor:
        """Continue by some hops.

        Args:
            mel: (1, n_mels, T), consecutive frames: n_past known ones, n_new to commit, and a
                look-ahead that may still change.
            n_past: Number of frames before the new ones.
            n_new: Number of frames that are final now.
            n_hops: Number of hops to return.

        Returns:
            wav (n_hops * hop_length,).
        """


@runtime_checkable
class Vocoder(Protocol):
    """Interface of a vocoder, which turns mels into sound.

    A vocoder may also have `stream(reach, seed)`, which returns a `StreamVocoder` whose sound lies
    `reach` frames behind the newest committed frame; without it, live speech uses `overlap`.

    Attributes:
        mel_settings: Settings of the mels that it takes.
    """

    mel_settings: dict

    def generate(self, mel: Tensor, seed: int = 0) -> Tensor:
        """Turn mel (B, n_mels, T) into wav (B, T · hop_length); one seed gives one result."""

    def generate_stream(self, mel: Tensor, seed: int = 0) -> Iterator[Tensor]:
        """Yield the same wav in pieces (B, n), with memory that does not depend on T."""


@torch.inference_mode()
def vocode(
    vocoder: Vocoder,
    mels: Sequence[Tensor],
    lengths: Sequence[int],
    longest: int,
    seed: int,
    progress: Progress = no_progress,
) -> list[np.ndarray]:
    """Turn mels into sound: short ones as one batch, long ones as streams.

    Args:
        vocoder: The vocoder.
        mels: One mel (n_mels, T) per recording.
        lengths: Samples of each result; the vocoder's output is cut to them.
        longest: Largest number of frames of a short mel.
        seed: Seed of the vocoder.
        progress: Called with the share of the work that is done, up to 1.

    Returns:
        One wav per mel, float32 (length,).
    """
    wavs = {}
    done, total = 0, sum(lengths)
    short = [index for index, mel in enumerate(mels) if mel.shape[1] <= longest]
    if short:
        n_frames = max(mels[index].shape[1] for index in short)
        batch = [F.pad(mels[index], (0, n_frames - mels[index].shape[1])) for index in short]
        sound = vocoder.generate(torch.stack(batch), seed).float().cpu().numpy()
        wavs = dict(zip(short, sound, strict=True))
        done = sum(lengths[index] for index in short)
        progress(done / total)
    for index, mel in enumerate(mels):
        if index in wavs:
            continue
        buffer = SpillBuffer()
        for piece in vocoder.generate_stream(mel[None], seed):
            buffer.append(piece[0].float().cpu().numpy())
            done += piece.shape[1]
            progress(min(1.0, done / total))
        wavs[index] = buffer.array()
    return [wavs[index][:length] for index, length in enumerate(lengths)]
