"""A source-filter vocoder: pulses and noise through filters that a network predicts from the mel.

Backbone and inverse STFT are those of Vocos (Siuzdak 2023, arXiv 2306.00814). Vocos must predict
the phases of all bins; here they come from pulses at the pitch, as in DDSP (Engel et al. 2020,
arXiv 2001.04643), so that training takes much less time.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vc_lightning.common.errors import InputError, require_at_least, require_layers
from vc_lightning.models.network import Network, State
from vc_lightning.models.vocoders.source_filter.convnext import BLOCK_WEIGHTS, ConvNeXt
from vc_lightning.models.vocoders.source_filter.excitation import pulse_train, without_gaps
from vc_lightning.models.vocoders.source_filter.pitch_net import PitchNet

LOUDEST = 8.0  # limit of a filter's log-amplitude: a source of variance 1, times e⁸, is not sound
RIDGE = 1e-3  # of the least-squares initialisation, relative to the variance of the mel
CHUNK_FRAMES = 1280


class SourceFilter(Network):
    """The source-filter vocoder, which computes all frames of a mel in parallel.

    Args:
        n_mels: Bands of the mel.
        hop_length: Samples between two frames of the mel.
        sample_rate: In Hz.
        n_fft: Window length of the STFT in samples.
        steps: Filters per frame; must divide `hop_length`.
        dim: Channels of the network that predicts the filters.
        n_blocks: Number of its blocks.
        dim_pitch: Channels of the network that predicts the pitch.
        pitch_blocks: Number of its blocks.

    Raises:
        InputError: A size is below 1, or `steps` or `n_fft` does not fit `hop_length`.
    """

    kind = vocoder = "source_filter"
    title = "Source-filter"
    sizes_of_mels = ("n_mels", "hop_length", "sample_rate")
    f0 = True  # its training needs the pitch of the recordings
    window: Tensor  # (n_fft,)

    def __init__(
        self,
        n_mels: int,
        hop_length: int,
        sample_rate: int,
        n_fft: int,
        steps: int,
        dim: int,
        n_blocks: int,
        dim_pitch: int,
        pitch_blocks: int,
    ):
        super().__init__(locals())
        require_at_least(1, "model", n_mels=n_mels, hop_length=hop_length, sample_rate=sample_rate)
        require_at_least(1, "model", steps=steps, dim=dim, dim_pitch=dim_pitch)
        require_layers("model", n_blocks=n_blocks, pitch_blocks=pitch_blocks)
        if hop_length % steps:
            raise InputError(f"model.steps={steps}: does not divide mel.hop_length={hop_length}")
        if n_fft % 2 or n_fft < 2 * hop_length // steps:
            raise InputError(
                f"model.n_fft={n_fft}: give an even number of at least "
                f"{2 * hop_length // steps}, twice the distance of two filters"
            )
        self.hop_length = hop_length
        self.sample_rate = sample_rate
        self.n_fft = n_fft
        self.steps = steps
        n_bins = steps * (n_fft // 2 + 1)
        self.pitch = PitchNet(n_mels, dim_pitch, pitch_blocks)
        self.envelope = nn.Conv1d(n_mels, n_bins, 1)
        self.backbone = ConvNeXt(n_mels, dim, n_blocks)
        self.head = nn.Linear(dim, 3 * n_bins)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("window", torch.hann_window(n_fft))  # stores n_fft in weight files

    @classmethod
    def sizes(cls, state: State) -> dict:
        dim, n_mels, _ = state["backbone.input.weight"].shape
        n_fft = len(state["window"])

        def n_tensors(prefix: str) -> int:
            return sum(key.startswith(prefix) for key in state)

        return {
            "n_mels": n_mels,
            "n_fft": n_fft,
            "steps": len(state["envelope.weight"]) // (n_fft // 2 + 1),
            "dim": dim,
            "n_blocks": n_tensors("backbone.blocks.") // BLOCK_WEIGHTS,
            "dim_pitch": len(state["pitch.backbone.input.weight"]),
            "pitch_blocks": n_tensors("pitch.backbone.blocks.") // BLOCK_WEIGHTS,
        }

    @property
    def context(self) -> int:
        """Mel frames on each side that the filters and the pitch of a frame depend on."""
        return max(self.backbone.context, self.pitch.backbone.context)

    def forward(self, mel: Tensor, f0: Tensor, generator: torch.Generator) -> Tensor:
        """Synthesize a mel at a given pitch.

        Args:
            mel: Mel (B, n_mels, T).
            f0: Pitch (B, T) in Hz, 0 where unvoiced.
            generator: Random generator of the noise and of the first phase of the pulses.

        Returns:
            Samples (B, (T − 1) · hop_length).
        """
        device = mel.device
        phase = torch.rand(len(mel), generator=generator, dtype=torch.float64, device=device)
        pulses, _ = pulse_train(without_gaps(f0), self.hop_length, self.sample_rate, phase)
        noise = torch.randn(pulses.shape, generator=generator, device=device)
        return self.filtered(pulses, noise, *self.filters(mel))

    def filters(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the filters of pulses and noise.

        Args:
            mel: Mel (B, n_mels, T).

        Returns:
            Log frequency responses (B, n_fft/2 + 1, T · steps): complex for the pulses, real for
            the noise, whose phase is random anyway.
        """
        common = self.envelope(mel).float()  # (B, steps · n_bins, T)
        own = self.head(self.backbone(mel)).transpose(1, 2).float()  # (B, 3 · steps · n_bins, T)
        pulses, noise, phase = own.chunk(3, dim=1)
        pulses, noise = (self._in_steps(common + x).clamp(max=LOUDEST) for x in (pulses, noise))
        return torch.complex(pulses, self._in_steps(phase)), noise

    def _in_steps(self, frames: Tensor) -> Tensor:
        """Reshape (B, steps · n_bins, T) -> (B, n_bins, T · steps)."""
        return frames.unflatten(1, (self.steps, -1)).permute(0, 2, 3, 1).flatten(2)

    def filtered(
        self, pulses: Tensor, noise: Tensor, pulse_filter: Tensor, noise_filter: Tensor
    ) -> Tensor:
        """Filter both sources and add them.

        Args:
            pulses: Pulses (B, n), n a multiple of `hop_length`.
            noise: Noise (B, n) or (1, n).
            pulse_filter: Filters of the pulses, see `filters`; those after sample n are ignored.
            noise_filter: The same for the noise.

        Returns:
            Samples (B, n).
        """
        spectra = [self.stft(pulses), self.stft(noise)]
        n = spectra[0].shape[-1]
        logarithm = pulse_filter[..., :n]
        spectrum = spectra[0] * torch.polar(logarithm.real.exp(), logarithm.imag)  # faster than exp
        spectrum = spectrum + spectra[1] * noise_filter[..., :n].exp()
        return torch.istft(
            spectrum,
            self.n_fft,
            self.hop_length // self.steps,
            window=self.window,
            length=pulses.shape[-1],
        )

    def stft(self, wav: Tensor) -> Tensor:
        """Compute the STFT with one frame per filter: (B, n) -> (B, n_fft/2 + 1, frames)."""
        return torch.stft(
            wav,
            self.n_fft,
            self.hop_length // self.steps,
            window=self.window,
            pad_mode="constant",
            return_complex=True,
        )

    def generate(self, mel: Tensor, seed: int = 0) -> Tensor:
        """Synthesize a mel at the pitch that `self.pitch` predicts from it.

        Args:
            mel: Mel (B, n_mels, T).
            seed: Seed of the noise; one seed always gives the same samples.

        Returns:
            Samples (B, T · hop_length).
        """
        return torch.cat(list(self.generate_stream(mel, seed)), dim=1)

    @torch.inference_mode()
    def generate_stream(self, mel: Tensor, seed: int = 0) -> Iterator[Tensor]:
        """Yield the same samples in pieces (B, n), with memory that does not depend on T."""
        generator = torch.Generator(mel.device).manual_seed(seed)
        phase = mel.new_zeros(len(mel), dtype=torch.float64)
        last = mel.new_zeros(len(mel), 1)  # pitch before the chunk
        margin = self.n_fft // self.hop_length + 1  # frames whose windows reach into the chunk
        mel = F.pad(mel, (0, margin + 1))
        n_frames = mel.shape[-1] - margin - 1
        pulses = torch.zeros(len(mel), 0, device=mel.device)  # of the last frames
        noise = torch.zeros(1, 0, device=mel.device)
        for start in range(0, n_frames, CHUNK_FRAMES):
            stop = min(start + CHUNK_FRAMES, n_frames)
            begin, end = max(0, start - margin), stop + margin  # range of the filters
            first = max(0, begin - self.context)
            seen = mel[..., first : end + 1 + self.context]
            inner = slice(begin - first, end + 1 - first)
            filters = [
                x[..., inner.start * self.steps : inner.stop * self.steps]
                for x in self.filters(seen)
            ]
            f0 = self.pitch(seen)[:, inner]
            known = pulses.shape[1] // self.hop_length  # frames with sources
            f0 = without_gaps(torch.cat([last, f0[:, known:]], dim=1))[:, 1:]
            last = f0[:, -1:]
            new_pulses, phase = pulse_train(f0, self.hop_length, self.sample_rate, phase)
            n_new = new_pulses.shape[1]
            new_noise = torch.randn(1, n_new, generator=generator, device=mel.device)
            pulses = torch.cat([pulses, new_pulses], dim=1)
            noise = torch.cat([noise, new_noise], dim=1)
            wav = self.filtered(pulses, noise, *filters)
            yield wav[:, (start - begin) * self.hop_length : (stop - begin) * self.hop_length]
            kept = 2 * margin * self.hop_length
            pulses, noise = pulses[:, -kept:], noise[:, -kept:]

    def stream(self, reach: int, seed: int) -> "SourceFilterStream":
        """Make the streaming form, see `Vocoder`."""
        return SourceFilterStream(self, reach, seed)

    def initialize_output(self, wav: Tensor, mel: Tensor) -> None:
        """Fit the filters' common linear part to recorded spectra, by least squares.

        Args:
            wav: Samples (B, T · hop_length).
            mel: Their mel (B, n_mels, T).
        """
        spectrum = self.stft(wav)[..., : mel.shape[-1] * self.steps].abs()
        noise = self.stft(torch.randn_like(wav))[..., : mel.shape[-1] * self.steps].abs()
        targets = spectrum.clamp(min=1e-4).log() - noise.square().mean().sqrt().log()
        targets = targets.unflatten(-1, (-1, self.steps)).permute(0, 2, 3, 1).flatten(2)
        targets = targets.flatten(0, 1)  # (frames, steps · n_bins)
        inputs = mel.transpose(1, 2).flatten(0, 1)  # (frames, n_mels)
        input_mean, target_mean = inputs.mean(dim=0), targets.mean(dim=0)
        inputs = inputs - input_mean
        gram = inputs.T @ inputs
        gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
        weight = torch.linalg.solve(gram, inputs.T @ (targets - target_mean))
        self.envelope.load_state_dict(
            {"weight": weight.T[..., None], "bias": target_mean - input_mean @ weight}
        )


class SourceFilterStream:
    """Continue pulses, noise and filters from step to step, so that steps join without a seam.

    The network gets as many past frames as it needs and the look-ahead of the step; after that,
    the last frame over and over, which is much closer to the frames to come than zeros are.

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
        self.f0: Tensor | None = None  # of the frame after the newest committed one
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
        seen = F.pad(seen, (0, vocoder.context), mode="replicate")

        found = F.pad(vocoder.pitch(seen)[None], (0, 1), mode="replicate")[0]
        first = found[:, new.start : new.start + 1] if self.f0 is None else self.f0
        f0 = without_gaps(torch.cat([first, found[:, new.start + 1 : new.stop + 1]], dim=1))
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
