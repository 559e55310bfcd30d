"""Live speech with a vocoder that has no streaming form of its own."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vc_lightning.audio.fading import faded
from vc_lightning.audio.mel import AMPLITUDE_FLOOR
from vc_lightning.models.vocoders.base import StreamVocoder, Vocoder

SEARCH_HOPS = 0.5  # largest shift that aligns the overlap of two pieces


def stream(vocoder: Vocoder, hop_length: int, reach: int, seed: int) -> StreamVocoder:
    """Make the streaming form of a vocoder: its own (`stream`), or else `OverlapStream`."""
    own = getattr(vocoder, "stream", None)
    return OverlapStream(vocoder, hop_length, reach, seed) if own is None else own(reach, seed)


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
            fading = faded(self._tail, piece[: self.hop])
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
