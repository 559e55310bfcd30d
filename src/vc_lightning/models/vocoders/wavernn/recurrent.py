"""What WaveRNNs have in common: they generate sample by sample, from a mel with context."""

from collections.abc import Iterator
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from vc_lightning.models.network import Network
from vc_lightning.models.vocoders.wavernn import batched_generation
from vc_lightning.models.vocoders.wavernn.streaming import WaveRNNStream


class Running(Protocol):
    """Interface of sequences that are being generated.

    Attributes:
        delay: Samples by which the sound is later than the mels.
    """

    delay: int

    def advance(self, mel: Tensor) -> Tensor:
        """Continue with padded mels (S, n_mels, N + 2·pad) -> wavs (S, N·hop)."""


class RecurrentVocoder(Network):
    """An autoregressive vocoder; subclasses say how sequences run.

    Attributes:
        pad: Frames of context that its mels need on each side.
        hop_length: Samples per frame.
        fold_frames: Fewest and most new frames of a fold, see `batched_generation`.
        stream_frames: The same for streams.
    """

    vocoder = "wavernn"
    title = "WaveRNN"
    pad: int
    hop_length: int
    fold_frames: ClassVar[tuple[int, int]] = batched_generation.FOLD_FRAMES
    stream_frames: ClassVar[tuple[int, int]] = batched_generation.STREAM_FRAMES

    def begin(self, noise: list[torch.Generator]) -> Running:
        """Begin one sequence per generator, from silence."""
        raise NotImplementedError

    def recur(self, mel: Tensor, noise: list[torch.Generator]) -> Tensor:
        """Generate padded mels (S, n_mels, N + 2·pad), with a generator each -> wavs (S, N·hop)."""
        return self.begin(noise).advance(mel)

    def generate(
        self, mel: Tensor, seed: int = 0, fold_frames: tuple[int, int] | None = None
    ) -> Tensor:
        """Turn mels into sound.

        Args:
            mel: Mels (B, n_mels, T), T ≥ 1.
            seed: Seed of the random numbers.
            fold_frames: See `batched_generation.generate`; None for those of the class.

        Returns:
            Samples (B, T · hop_length) in −1…1.
        """
        return batched_generation.generate(self, mel, seed, fold_frames or self.fold_frames)

    def generate_stream(self, mel: Tensor, seed: int = 0) -> Iterator[Tensor]:
        """Yield samples in pieces (B, n), the first one early, with bounded memory."""
        return batched_generation.stream(self, mel, seed, self.stream_frames)

    def stream(self, reach: int, seed: int) -> WaveRNNStream:
        """Make the streaming form, see `Vocoder`."""
        return WaveRNNStream(self, reach, seed)
