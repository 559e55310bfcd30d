"""The source-filter vocoder for a mel that arrives in steps."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vc_lightning.models.vocoders.excitation import pulse_train, without_gaps
from vc_lightning.models.vocoders.source_filter import SourceFilter


class SourceFilterStream:
    """Continue pulses, noise and filters from step to step, so that steps join without a seam.

    The network gets as many past frames as it needs and the look-ahead of the step; after that,
    zeros, as at the end of a recording.

    A sample needs the sources one frame further than the filters, so the pitch of a frame is fixed
    one frame before its filter.

    Args:
        vocoder: The network.
        reach: Number of frames by which the sound lies behind the newest committed frame, ≥ 2.
        seed: Seed of the noise.
    """

    def __init__(self, vocoder: SourceFilter, reach: int, seed: int):
        self.vocoder = vocoder
        self.reach = reach
        self.margin = 1 + vocoder.n_fft // 2 // vocoder.hop_length  # frames that share a sample
        device = vocoder.window.device
        self.generator = torch.Generator(device).manual_seed(seed)
        self.phase = torch.zeros(1, dtype=torch.float64, device=device)
        self.f0 = torch.zeros(1, 1, device=device)  # of the frame after the newest committed one
        self.past: Tensor | None = None  # committed mel frames
        self.pulses = self.noise = torch.zeros(1, 0, device=device)
        self.pulse_filter = self.noise_filter = torch.zeros(
            1, vocoder.n_fft // 2 + 1, 0, device=device
        )

    def step(self, mel: Tensor, n_past: int, n_new: int, n_hops: int) -> Tensor:
        """Continue by some hops; see `StreamVocoder.step`."""
        vocoder, hop, steps = self.vocoder, self.vocoder.hop_length, self.vocoder.steps
        past = mel[..., :n_past] if self.past is None else self.past
        seen = torch.cat([past, mel[..., n_past:]], dim=-1)
        new = slice(past.shape[-1], past.shape[-1] + n_new)
        self.past = seen[..., max(0, new.stop - vocoder.context) : new.stop].clone()

        found = F.pad(vocoder.pitch(seen)[None], (0, 1), mode="replicate")[0]
        f0 = without_gaps(torch.cat([self.f0, found[:, new.start + 1 : new.stop + 1]], dim=1))
        pulses, self.phase = pulse_train(f0, hop, vocoder.sample_rate, self.phase)
        self.f0 = f0[:, -1:]
        noise = torch.randn(pulses.shape, generator=self.generator, device=mel.device)
        pulse_filter, noise_filter = (
            made[..., new.start * steps : new.stop * steps] for made in vocoder.filters(seen)
        )
        n_kept = n_hops + self.reach + self.margin  # frames
        self.pulses, self.noise = (
            torch.cat(pair, dim=1)[:, -n_kept * hop :]
            for pair in ((self.pulses, pulses), (self.noise, noise))
        )
        self.pulse_filter, self.noise_filter = (
            torch.cat(pair, dim=-1)[..., -n_kept * steps :]
            for pair in ((self.pulse_filter, pulse_filter), (self.noise_filter, noise_filter))
        )
        n_frames = self.pulse_filter.shape[-1] // steps
        wav = vocoder.filtered(
            self.pulses[:, -n_frames * hop :],
            self.noise[:, -n_frames * hop :],
            *(F.pad(x, (0, 1)) for x in (self.pulse_filter, self.noise_filter)),
        )[0]
        stop = (n_frames - self.reach) * hop  # frame i is centred on sample i · hop
        return wav[stop - n_hops * hop : stop]
