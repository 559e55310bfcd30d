"""WaveRNNs for a mel that arrives in steps."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vc_lightning.models.vocoders.wavernn.batched_generation import cut

if TYPE_CHECKING:
    from vc_lightning.models.vocoders.wavernn.recurrent import RecurrentVocoder


class WaveRNNStream:
    """WaveRNN whose state continues from step to step, so that steps join without a seam.

    The network runs `n_ahead` hops ahead of the returned sound, because the filterbank of a
    multi-band network completes a sample only then. It needs a look-ahead of n_ahead + pad − reach
    frames; missing ones are zeros, as at the end of a recording.

    Args:
        vocoder: The network.
        reach: Frames by which the returned sound is older than the newest committed frame.
        seed: Seed of the random numbers.
    """

    def __init__(self, vocoder: "RecurrentVocoder", reach: int, seed: int):
        self.vocoder = vocoder
        self.reach = reach
        self.running = vocoder.begin([torch.Generator().manual_seed(seed)])
        self.n_ahead = math.ceil(self.running.delay / vocoder.hop_length)
        self.past: Tensor | None = None  # committed mel frames
        self.made: Tensor | None = None  # samples that are not returned yet

    def step(self, mel: Tensor, n_past: int, n_new: int, n_hops: int) -> Tensor:
        """Continue by some hops; see `StreamVocoder.step`."""
        pad, hop = self.vocoder.pad, self.vocoder.hop_length
        past = mel[..., :n_past] if self.past is None else self.past
        seen = torch.cat([past, mel[..., n_past:]], dim=-1)
        n_final = past.shape[-1] + n_new
        stop = n_final - self.reach + self.n_ahead
        start = stop - n_hops - (self.n_ahead if self.made is None else 0)
        wav = self.running.advance(cut(seen, start - pad, stop + pad))[0]
        wav = wav[self.running.delay :] if self.made is None else torch.cat([self.made, wav])
        self.past = seen[..., max(0, stop - pad) : n_final].clone()
        self.made = wav[n_hops * hop :].clone()
        return wav[: n_hops * hop]
