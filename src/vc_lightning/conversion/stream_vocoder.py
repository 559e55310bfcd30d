"""Streaming forms of the vocoders, which continue where they stopped."""

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from vc_lightning.audio.mel import AMPLITUDE_FLOOR
from vc_lightning.conversion.stream_source_filter import SourceFilterStream
from vc_lightning.conversion.stream_wavernn import WaveRNNStream
from vc_lightning.models.vocoders.base import Vocoder
from vc_lightning.models.vocoders.griffin_lim import GriffinLim
from vc_lightning.models.vocoders.multiband_wavernn import MultiBandWaveRNN
from vc_lightning.models.vocoders.source_filter import SourceFilter
from vc_lightning.models.vocoders.wavernn import WaveRNN

PAST_FRAMES = 8  # mel frames before the new ones that a vocoder also gets
SEARCH_HOPS = 0.5  # largest shift that aligns the overlap of two pieces


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


class GriffinLimStream:
    """Run Griffin-Lim step by step; committed frames are not changed again.

    Real-time iterative spectrogram inversion with look-ahead (RTISI-LA, Zhu, Beauregard & Wyse
    2007). The sound is one inverse STFT of the committed frames, so steps join without a seam.

    Args:
        vocoder: Gives the magnitudes, the number of iterations and the momentum.
        seed: Seed of the first frame's phases.
    """

    def __init__(self, vocoder: GriffinLim, seed: int):
        self.vocoder = vocoder
        self.n_fft, self.hop = vocoder.mel.n_fft, vocoder.mel.hop_length
        self.n_kept = math.ceil(self.n_fft / self.hop) + 1  # frames that overlap the next one
        device = vocoder.mel.window.device
        n_bins = self.n_fft // 2 + 1
        self.committed = torch.zeros(1, n_bins, self.n_kept, dtype=torch.complex64, device=device)
        generator = torch.Generator(device).manual_seed(seed)
        self.phase = 2 * math.pi * torch.rand(1, n_bins, generator=generator, device=device)

    def step(self, mel: Tensor, n_past: int, n_new: int, n_hops: int) -> Tensor:
        """Continue by some hops; see `StreamVocoder.step`."""
        vocoder, kept = self.vocoder, self.n_kept
        magnitude = vocoder.sharpened(vocoder.magnitude(mel))
        # The phases continue from the last past frame.
        first = max(0, n_past - 1)
        angles = vocoder.initial_phases(magnitude[..., first:], self.phase)[..., n_past - first :]
        magnitude = magnitude[..., n_past:]
        phases = torch.polar(torch.ones_like(angles), angles)
        before = torch.zeros_like(phases)
        pull = vocoder.momentum / (1 + vocoder.momentum)
        for _ in range(vocoder.n_iter):
            spectrum = torch.cat([self.committed, magnitude * phases], dim=-1)
            consistent = vocoder.stft(vocoder.istft(spectrum))[..., kept:]
            phases = consistent - pull * before
            phases = phases / phases.abs().clamp(min=AMPLITUDE_FLOOR**2)
            before = consistent
        final = torch.cat([self.committed, magnitude * phases], dim=-1)
        wav = vocoder.istft(final)[0]
        end = kept + n_new  # frames from `end` on are not committed
        self.committed = final[..., end - kept : end]
        self.phase = self.committed[..., -1].angle()
        # The first sample that an uncommitted frame can reach closes the last hop.
        stop = (end - math.ceil(self.n_fft / (2 * self.hop))) * self.hop
        return wav[stop - n_hops * self.hop : stop]


class OverlapStream:
    """Run any other vocoder in overlapping pieces, aligned by correlation and cross-faded.

    Every step generates the sound of the past frames and of the look-ahead again.

    Args:
        vocoder: The vocoder.
        hop_length: Hop length of its mels in samples.
        reach: Number of frames by which the sound lies behind the newest committed frame.
        seed: Seed of the first step; every step adds 1.
    """

    def __init__(self, vocoder: Vocoder, hop_length: int, reach: int, seed: int):
        self.vocoder = vocoder
        self.hop = hop_length
        self.reach = reach
        self._seed = seed
        self._tail: Tensor | None = None  # continuation of the last step's sound

    def step(self, mel: Tensor, n_past: int, n_new: int, n_hops: int) -> Tensor:
        """Continue by some hops; see `StreamVocoder.step`."""
        wav = self.vocoder.generate(mel, self._seed)[0].float()
        self._seed = (self._seed + 1) % 2**32
        begin = max(0, (n_past + n_new - self.reach - n_hops) * self.hop)
        n_samples = n_hops * self.hop
        begin += self._shift(wav, begin, n_samples)
        piece = wav[begin : begin + n_samples + self.hop]
        piece = F.pad(piece, (0, n_samples + self.hop - len(piece)))
        if self._tail is not None:
            weight = torch.linspace(0, 1, self.hop, device=piece.device)
            fading = torch.lerp(self._tail, piece[: self.hop], weight)
            piece = torch.cat([fading, piece[self.hop :]])
        self._tail = piece[n_samples:]
        return piece[:n_samples]

    def _shift(self, wav: Tensor, begin: int, n_samples: int) -> int:
        """Find the shift in samples with which the new piece correlates best with the last one."""
        if self._tail is None:
            return 0
        reach = int(SEARCH_HOPS * self.hop)
        low = max(-reach, -begin)
        high = min(reach, len(wav) - begin - n_samples - self.hop)
        if high <= low:
            return 0
        stretch = wav[begin + low : begin + high + self.hop]
        candidates = stretch.unfold(0, self.hop, 1)
        norms = candidates.norm(dim=1).clamp(min=AMPLITUDE_FLOOR)
        return low + int((candidates @ self._tail / norms).argmax())


def continued(vocoder: Vocoder, hop_length: int, reach: int, seed: int) -> StreamVocoder:
    """Make the streaming form of a vocoder.

    Args:
        vocoder: The vocoder.
        hop_length: Hop length of its mels in samples.
        reach: Number of frames by which the sound lies behind the newest committed frame.
        seed: Seed of its random numbers.
    """
    if isinstance(vocoder, GriffinLim):
        return GriffinLimStream(vocoder, seed)
    if isinstance(vocoder, SourceFilter):
        return SourceFilterStream(vocoder, reach, seed)
    if isinstance(vocoder, WaveRNN | MultiBandWaveRNN):
        return WaveRNNStream(vocoder, reach, seed)
    return OverlapStream(vocoder, hop_length, reach, seed)
