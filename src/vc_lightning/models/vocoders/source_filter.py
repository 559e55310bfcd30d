"""A source-filter vocoder: pulses and noise, filtered as a network predicts from the mel.

Backbone and inverse STFT are those of Vocos (Siuzdak 2023, arXiv 2306.00814). Vocos must predict
the phases of all bins; here they come from pulses at the pitch, as in DDSP (Engel et al. 2020,
arXiv 2001.04643), which saves most of the training.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vc_lightning.audio.pitch import FMAX_HZ, FMIN_HZ
from vc_lightning.common.errors import InputError, require_at_least, require_layers
from vc_lightning.models.vocoders.excitation import pulse_train, without_gaps

KERNEL_SIZE = 7
LOUDEST = 8.0  # log-amplitude of a filter: e⁸ at a source of variance 1 exceeds any sound
PITCHES_AN_OCTAVE = 24
RIDGE = 1e-3  # of the least-squares initialisation, relative to the variance of the mel
VOICED_PROBABILITY = 0.5
CHUNK_FRAMES = 1280


class SourceFilter(nn.Module):
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

    Attributes:
        mel_settings: Settings of the mels it was trained on; set when weights are loaded.

    Raises:
        InputError: A size is below 1, or `steps` or `n_fft` does not fit `hop_length`.
    """

    kind = "source_filter"
    f0 = True  # its training needs the pitch of the recordings

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
        super().__init__()
        self.arguments = {
            "n_mels": n_mels,
            "hop_length": hop_length,
            "sample_rate": sample_rate,
            "n_fft": n_fft,
            "steps": steps,
            "dim": dim,
            "n_blocks": n_blocks,
            "dim_pitch": dim_pitch,
            "pitch_blocks": pitch_blocks,
        }
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
        self.mel_settings: dict = {}
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
        random = {"generator": generator, "device": mel.device}
        phase = torch.rand(len(mel), dtype=torch.float64, **random)
        pulses, _ = pulse_train(without_gaps(f0), self.hop_length, self.sample_rate, phase)
        noise = torch.randn(pulses.shape, **random)
        return self.filtered(pulses, noise, *self.filters(mel))

    def filters(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the filters of pulses and noise.

        Args:
            mel: Mel (B, n_mels, T).

        Returns:
            Log frequency responses (B, n_fft/2 + 1, T · steps): complex for the pulses, real for
            the noise, whose phase is random anyway.
        """
        both = self.envelope(mel)  # (B, steps · n_bins, T)
        own = self.head(self.backbone(mel)).transpose(1, 2).float()  # (B, 3 · steps · n_bins, T)
        pulses, noise, phase = own.chunk(3, dim=1)
        pulses, noise = (
            self._in_steps(both.float() + x).clamp(max=LOUDEST) for x in (pulses, noise)
        )
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
        spectrum = spectra[0] * pulse_filter[..., :n].exp()
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
        """Synthesize a mel at the pitch that it shows.

        Args:
            mel: Mel (B, n_mels, T).
            seed: Seed of the noise; one seed always gives the same samples.

        Returns:
            Samples (B, T · hop_length).
        """
        return torch.cat(list(self.generate_stream(mel, seed)), dim=1)

    @torch.inference_mode()
    def generate_stream(self, mel: Tensor, seed: int = 0) -> Iterator[Tensor]:
        """Synthesize a mel in chunks, with memory that does not depend on T.

        Args:
            mel: Mel (B, n_mels, T).
            seed: See `generate`.

        Yields:
            Consecutive samples (B, n), together (B, T · hop_length).
        """
        generator = torch.Generator(mel.device).manual_seed(seed)
        phase = mel.new_zeros(len(mel), dtype=torch.float64)
        last = mel.new_zeros(len(mel), 1)  # pitch before the chunk
        margin = self.n_fft // self.hop_length + 1  # frames whose windows reach into the chunk
        mel = F.pad(mel, (0, margin + 1))
        n_frames = mel.shape[-1] - margin - 1
        held = None  # pulses and noise of the last frames
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
            known = (
                0 if held is None else held[0].shape[1] // self.hop_length
            )  # frames with sources
            f0 = without_gaps(torch.cat([last, f0[:, known:]], dim=1))[:, 1:]
            pulses, phase = pulse_train(f0, self.hop_length, self.sample_rate, phase)
            noise = torch.randn(1, pulses.shape[1], generator=generator, device=mel.device)
            if held is not None:
                pulses, noise = (
                    torch.cat(pair, dim=1) for pair in zip(held, (pulses, noise), strict=True)
                )
            last = f0[:, -1:]
            wav = self.filtered(pulses, noise, *filters)
            yield wav[:, (start - begin) * self.hop_length : (stop - begin) * self.hop_length]
            kept = 2 * margin * self.hop_length
            held = pulses[:, -kept:], noise[:, -kept:]

    def initialize_output(self, wav: Tensor, mel: Tensor) -> None:
        """Fit the filters' common linear part to recorded spectra, by least squares.

        Args:
            wav: Samples (B, T · hop_length).
            mel: Their mel (B, n_mels, T).
        """
        spectrum = self.stft(wav)[..., : mel.shape[-1] * self.steps].abs()
        noise = self.stft(torch.randn_like(wav))[..., : mel.shape[-1] * self.steps].abs()
        wanted = spectrum.clamp(min=1e-4).log() - noise.square().mean().sqrt().log()
        wanted = wanted.unflatten(-1, (-1, self.steps)).permute(0, 2, 3, 1).flatten(2).flatten(0, 1)
        given = mel.transpose(1, 2).flatten(0, 1)  # (frames, n_mels)
        mean, target = given.mean(dim=0), wanted.mean(dim=0)
        given = given - mean
        gram = given.T @ given
        gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram))
        weight = torch.linalg.solve(gram, given.T @ (wanted - target))  # (n_mels, steps · n_bins)
        self.envelope.weight.data.copy_(weight.T[..., None])
        self.envelope.bias.data.copy_(target - mean @ weight)


class PitchNet(nn.Module):
    """Network that reads the pitch off a mel, as a classification into quarter tones.

    Args:
        n_mels: Bands of the mel.
        dim: Channels.
        n_blocks: Number of blocks.
    """

    def __init__(self, n_mels: int, dim: int, n_blocks: int):
        super().__init__()
        n_pitches = int(PITCHES_AN_OCTAVE * torch.tensor(FMAX_HZ / FMIN_HZ).log2()) + 2
        self.n_pitches = n_pitches
        self.backbone = ConvNeXt(n_mels, dim, n_blocks)
        self.head = nn.Linear(dim, 1 + n_pitches)  # class 0: unvoiced

    def forward(self, mel: Tensor) -> Tensor:
        """Predict the pitch of mel (B, n_mels, T) -> f0 (B, T) in Hz, 0 where unvoiced."""
        probabilities = self.logits(mel).softmax(dim=-1)
        pitches = probabilities[..., 1:]
        best = pitches.argmax(dim=-1, keepdim=True)
        classes = torch.arange(self.n_pitches, device=mel.device)
        near = pitches * ((classes - best).abs() <= 1)  # interpolate between the classes
        height = (near * classes).sum(dim=-1) / near.sum(dim=-1)
        f0 = FMIN_HZ * 2 ** (height / PITCHES_AN_OCTAVE)
        return torch.where(probabilities[..., 0] < 1 - VOICED_PROBABILITY, f0, 0)

    def logits(self, mel: Tensor) -> Tensor:
        """Compute the logits of mel (B, n_mels, T) -> (B, T, 1 + n_pitches), unvoiced first."""
        return self.head(self.backbone(mel)).float()

    def loss(self, mel: Tensor, f0: Tensor) -> Tensor:
        """Compute the cross-entropy with the two classes nearest to the pitch, or with "unvoiced".

        Args:
            mel: Mel (B, n_mels, T).
            f0: Pitch (B, T) in Hz, 0 where unvoiced.
        """
        voiced = f0 > 0
        height = PITCHES_AN_OCTAVE * (f0.clamp(FMIN_HZ, FMAX_HZ) / FMIN_HZ).log2()
        classes = torch.arange(self.n_pitches, device=mel.device)
        target = (1 - (height[..., None] - classes).abs()).clamp(min=0) * voiced[..., None]
        target = torch.cat([(~voiced)[..., None].float(), target], dim=-1)
        return -(target * self.logits(mel).log_softmax(dim=-1)).sum(dim=-1).mean()


class ConvNeXt(nn.Module):
    """The backbone of Vocos: one-dimensional ConvNeXt blocks (Liu et al. 2022, arXiv 2201.03545).

    Args:
        n_in: Input channels.
        dim: Output channels.
        n_blocks: Number of blocks.
    """

    def __init__(self, n_in: int, dim: int, n_blocks: int):
        super().__init__()
        self.input = nn.Conv1d(n_in, dim, KERNEL_SIZE, padding="same")
        self.input_norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(ConvNeXtBlock(dim, n_blocks) for _ in range(n_blocks))
        self.output_norm = nn.LayerNorm(dim)

    @property
    def context(self) -> int:
        """Frames on each side that a frame depends on."""
        return (1 + len(self.blocks)) * (KERNEL_SIZE // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Compute features of x (B, n_in, T) -> (B, T, dim)."""
        x = self.input_norm(self.input(x).transpose(1, 2))
        for block in self.blocks:
            x = block(x)
        return self.output_norm(x)


class ConvNeXtBlock(nn.Module):
    """A depthwise convolution over time, then a network over the channels of each frame.

    Args:
        dim: Channels.
        n_blocks: Number of blocks in the backbone; scales the initial residual.
    """

    def __init__(self, dim: int, n_blocks: int):
        super().__init__()
        self.depthwise = nn.Conv1d(dim, dim, KERNEL_SIZE, padding="same", groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.wide = nn.Linear(dim, 3 * dim)
        self.narrow = nn.Linear(3 * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), 1 / n_blocks))

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual to x (B, T, dim) -> (B, T, dim)."""
        hidden = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return x + self.scale * self.narrow(F.gelu(self.wide(self.norm(hidden))))
