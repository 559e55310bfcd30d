"""Griffin-Lim: sound from a mel by phase reconstruction, in chunks of bounded length."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from vc_lightning.audio.fading import faded
from vc_lightning.audio.mel import AMPLITUDE_FLOOR, MelSpectrogram
from vc_lightning.common.errors import InputError, require_at_least, require_within
from vc_lightning.models.vocoders.griffin_lim.network import GriffinLimNet
from vc_lightning.models.vocoders.griffin_lim.phase_gradient import propagated

LOUDEST = 3.0  # in the scale of the mel: 200 dB above its upper limit
MAX_ITER = 10_000  # a few hundred are enough
CHUNK_FRAMES = 1280  # 20 s; arrays of a minute exceed the cache and take 1.5 times as long
REACH_WINDOWS = 4  # context before and after a chunk, in multiples of n_fft


class GriffinLim(nn.Module):
    """Vocoder that estimates magnitudes from the mel, then their phases (Griffin & Lim 1984).

    Args:
        mel: Mel-spectrogram to invert.
        network: Network that refines the rough magnitudes of `MelSpectrogram.spectrum`, or None.
        sharpness: Exponent of the magnitudes; above 1 it sharpens peaks, 1 changes nothing.
        n_iter: Iterations of fast Griffin-Lim (Perraudin et al. 2013).
        momentum: Momentum of the iterations, from 0 to below 1.
    """

    def __init__(
        self,
        mel: MelSpectrogram,
        network: GriffinLimNet | None,
        sharpness: float,
        n_iter: int,
        momentum: float,
    ):
        super().__init__()
        require_at_least(1, "vocoder", n_iter=n_iter)
        require_within(1, MAX_ITER, "vocoder", n_iter=n_iter)
        require_within(0, 1, "vocoder", momentum=momentum)
        require_within(0.5, 2, "vocoder", sharpness=sharpness)
        self.mel = mel
        self.mel_settings = mel.settings
        self.network = network
        self.sharpness = sharpness
        self.n_iter = n_iter
        self.momentum = momentum

    def generate(self, mel: Tensor, seed: int = 0) -> Tensor:
        """Turn mels into sound.

        Args:
            mel: Mels (B, n_mels, T).
            seed: Seed of the initial phases.

        Returns:
            Samples (B, T · hop_length).
        """
        return torch.cat(list(self.generate_stream(mel, seed)), dim=1)

    @torch.inference_mode()
    def generate_stream(self, mel: Tensor, seed: int = 0) -> Iterator[Tensor]:
        """Yield the same samples in pieces (B, n), with memory that does not depend on T."""
        generator = torch.Generator(mel.device).manual_seed(seed)
        hop, n_frames = self.mel.hop_length, mel.shape[-1]
        reach = REACH_WINDOWS * math.ceil(self.mel.n_fft / hop)  # frames
        length = max(CHUNK_FRAMES, 2 * reach)
        held, start = None, 0
        while start < n_frames:
            stop = start + length
            is_last = stop + reach >= n_frames
            stop = n_frames if is_last else stop
            first = start if held is None else start - reach
            wav = self._chunk(mel[..., first : stop + reach], held, generator)
            # The last frame of `held` is cross-faded with the next chunk and returned with it.
            begin, end = (max(0, frame - first - 1) * hop for frame in (start, stop))
            yield wav[:, begin:] if is_last else wav[:, begin:end]
            held = wav[:, end + hop - reach * hop : end + hop]
            start = stop

    def stream(self, reach: int, seed: int) -> "GriffinLimStream":
        """Make the streaming form, see `Vocoder`; its sound needs no `reach`."""
        return GriffinLimStream(self, seed)

    def _chunk(self, mel: Tensor, held: Tensor | None, generator: torch.Generator) -> Tensor:
        """Turn mel (B, n_mels, T) into wav (B, T · hop) that continues the sound `held`."""
        # T frames centred on 0, hop, … span (T−1)·hop samples; the last one is repeated for T·hop.
        magnitude = self.sharpened(self.magnitude(torch.cat([mel, mel[..., -1:]], dim=-1)))
        if held is None:
            start = torch.rand(magnitude.shape[1], generator=generator, device=mel.device)
            start = 2 * torch.pi * start.expand(magnitude.shape[:2])  # alike for all rows
            angles = self.initial_phases(magnitude, start)
        else:
            hop = self.mel.hop_length
            known = self.stft(held).angle()  # complete windows up to n_known
            n_known = held.shape[1] // hop - math.ceil(self.mel.n_fft / (2 * hop))
            later = self.initial_phases(magnitude[..., n_known:], known[..., n_known])
            angles = torch.cat([known[..., :n_known], later], dim=-1)
        spectrum = self.iterated(magnitude, angles, lambda x: self.stft(self._continued(x, held)))
        return self._continued(spectrum, held)

    def magnitude(self, mel: Tensor) -> Tensor:
        """Estimate magnitudes from a mel (B, n_mels, T) -> (B, n_fft/2 + 1, T), without `gain`.

        Raises:
            InputError: The network's output is not finite or far too loud.
        """
        spectrum = self.mel.spectrum(mel)
        if self.network is not None:
            spectrum = self.network(mel, spectrum)
            if not (spectrum < LOUDEST).all():  # also true for NaN
                raise InputError(
                    "vocoder.path: the network's spectra are louder than any sound or not "
                    "finite; its file is damaged, or its training diverged"
                )
        return self.mel.amplitude(spectrum)

    def sharpened(self, magnitude: Tensor) -> Tensor:
        """Sharpen magnitudes (B, n_fft/2 + 1, T); every frame keeps its power."""
        sharp = magnitude**self.sharpness
        return sharp * (magnitude.norm(dim=1, keepdim=True) / sharp.norm(dim=1, keepdim=True))

    def initial_phases(self, magnitude: Tensor, start: Tensor) -> Tensor:
        """Estimate phases (B, n_bins, T) for the first iteration, see `propagated`."""
        mel = self.mel
        return propagated(magnitude, mel.n_fft, mel.hop_length, mel.win_length, start)

    def iterated(
        self, magnitude: Tensor, angles: Tensor, consistent: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Improve phases by the iterations of fast Griffin-Lim.

        Args:
            magnitude: Magnitudes (B, n_bins, T).
            angles: First phases (B, n_bins, T) in radians.
            consistent: Returns the STFT, at these frames, of the sound of a spectrum.

        Returns:
            The spectrum (B, n_bins, T).
        """
        phases = torch.polar(torch.ones_like(angles), angles)
        before = torch.zeros_like(phases)
        pull = self.momentum / (1 + self.momentum)
        for _ in range(self.n_iter):
            now = consistent(magnitude * phases)
            phases = now - pull * before
            phases = phases / phases.abs().clamp(min=AMPLITUDE_FLOOR**2)
            before = now
        return magnitude * phases

    def stft(self, wav: Tensor) -> Tensor:
        """Compute the STFT of samples (B, T · hop) -> (B, n_fft/2 + 1, T + 1)."""
        mel = self.mel
        return torch.stft(
            wav,
            mel.n_fft,
            mel.hop_length,
            mel.win_length,
            window=mel.window,
            pad_mode="constant",
            return_complex=True,
        )

    def istft(self, spectrum: Tensor) -> Tensor:
        """Compute the inverse STFT of frames (B, n_fft/2 + 1, T + 1) -> samples (B, T · hop)."""
        mel = self.mel
        length = (spectrum.shape[-1] - 1) * mel.hop_length
        return torch.istft(
            spectrum, mel.n_fft, mel.hop_length, mel.win_length, window=mel.window, length=length
        )

    def _continued(self, spectrum: Tensor, held: Tensor | None) -> Tensor:
        """Compute the inverse STFT, cross-faded with the previous chunk's tail."""
        wav = self.istft(spectrum)
        if held is None:
            return wav
        hop, n_held = self.mel.hop_length, held.shape[1]
        fading = faded(held[:, -hop:], wav[:, n_held - hop : n_held])
        return torch.cat([held[:, :-hop], fading, wav[:, n_held:]], dim=1)


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

        def consistent(spectrum: Tensor) -> Tensor:
            wav = vocoder.istft(torch.cat([self.committed, spectrum], dim=-1))
            return vocoder.stft(wav)[..., kept:]

        spectrum = vocoder.iterated(magnitude, angles, consistent)
        final = torch.cat([self.committed, spectrum], dim=-1)
        wav = vocoder.istft(final)[0]
        end = kept + n_new  # frames from `end` on are not committed
        self.committed = final[..., end - kept : end]
        self.phase = self.committed[..., -1].angle()
        # The first sample that an uncommitted frame can reach closes the last hop.
        stop = (end - math.ceil(self.n_fft / (2 * self.hop))) * self.hop
        return wav[stop - n_hops * self.hop : stop]
