"""Griffin-Lim: sound from a mel without a trained vocoder, in stretches of bounded length."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vc_lightning.audio.mel import AMPLITUDE_FLOOR, MelSpectrogram
from vc_lightning.common.errors import InputError, require_at_least, require_within
from vc_lightning.models.vocoders.mel_to_linear import MagnitudeNet
from vc_lightning.models.vocoders.phase_gradient import propagated

LOUDEST = 3.0  # in the scale of the mel: 200 dB above what it calls loud
MAX_ITER = 10_000  # nothing is gained after some hundreds

STRETCH_FRAMES = 1280  # 20 s at once: arrays of a minute leave the cache, half as slow again
REACH_WINDOWS = 4  # n_fft long: of the sound before, to which a stretch is held, and after it


class GriffinLim(nn.Module):
    """Every bin's magnitude out of the mel, then phases by Griffin & Lim (1984).

    Args:
        mel: the mel-spectrogram to invert.
        network: makes the rough magnitudes of `MelSpectrogram.spectrum` better, or None.
        sharpness: power that raises the peaks of a frame over its valleys; 1 leaves them.
        n_iter: rounds of fast Griffin-Lim (Perraudin et al. 2013) with this `momentum`.
    """

    def __init__(
        self,
        mel: MelSpectrogram,
        network: MagnitudeNet | None,
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
        """mel (B, n_mels, T) -> wav (B, T · hop_length); the first phases are random by `seed`."""
        return torch.cat(list(self.generate_stream(mel, seed)), dim=1)

    @torch.inference_mode()
    def generate_stream(self, mel: Tensor, seed: int = 0) -> Iterator[Tensor]:
        """Such a wav in pieces (B, n), in memory that does not depend on T."""
        generator = torch.Generator(mel.device).manual_seed(seed)
        hop, n_frames = self.mel.hop_length, mel.shape[-1]
        reach = REACH_WINDOWS * math.ceil(self.mel.settings["n_fft"] / hop)  # frames
        length = max(STRETCH_FRAMES, 2 * reach)
        held, start = None, 0
        while start < n_frames:
            stop = start + length
            is_last = stop + reach >= n_frames
            stop = n_frames if is_last else stop
            first = start if held is None else start - reach
            wav = self._stretch(mel[..., first : stop + reach], held, generator)
            # The last frame of what is held fades into the next stretch, so it comes with that.
            begin, end = (max(0, frame - first - 1) * hop for frame in (start, stop))
            yield wav[:, begin:] if is_last else wav[:, begin:end]
            held = wav[:, end + hop - reach * hop : end + hop]
            start = stop

    def _stretch(self, mel: Tensor, held: Tensor | None, generator: torch.Generator) -> Tensor:
        """mel (B, n_mels, T) -> wav (B, T · hop), which begins with the sound that is held."""
        # T frames centred on 0, hop, … span (T−1)·hop samples; a repeated last one makes it T·hop.
        magnitude = self.sharpened(self.magnitude(torch.cat([mel, mel[..., -1:]], dim=-1)))
        transform = [self.mel.settings[key] for key in ("n_fft", "hop_length", "win_length")]
        n_fft, hop, _ = transform
        if held is None:
            start = torch.rand(magnitude.shape[1], generator=generator, device=mel.device)
            start = 2 * torch.pi * start.expand(magnitude.shape[:2])  # for each as if alone
            angles = propagated(magnitude, *transform, start)
        else:
            known = self._stft(held).angle()  # of whole windows as far as n_known
            n_known = held.shape[1] // hop - math.ceil(n_fft / (2 * hop))
            later = propagated(magnitude[..., n_known:], *transform, known[..., n_known])
            angles = torch.cat([known[..., :n_known], later], dim=-1)
        phases = torch.polar(torch.ones_like(angles), angles)
        before = torch.zeros_like(phases)
        for _ in range(self.n_iter):
            consistent = self._stft(self._istft(magnitude * phases, held))
            phases = consistent - self.momentum / (1 + self.momentum) * before
            phases = phases / phases.abs().clamp(min=AMPLITUDE_FLOOR**2)
            before = consistent
        return self._istft(magnitude * phases, held)

    def magnitude(self, mel: Tensor) -> Tensor:
        """mel (B, n_mels, T) -> |STFT| (B, n_fft/2 + 1, T) of the recording before `gain`.

        Raises: InputError when the network makes no spectra of sound.
        """
        spectrum = self.mel.spectrum(mel)
        if self.network is not None:
            spectrum = self.network(mel, spectrum)
            if not (spectrum < LOUDEST).all():  # nor is NaN
                raise InputError(
                    "vocoder.magnitude: its network gives spectra louder than any sound; its "
                    "weights are damaged, or its training diverged"
                )
        return self.mel.amplitude(spectrum)

    def sharpened(self, magnitude: Tensor) -> Tensor:
        """Magnitudes (B, n_fft/2 + 1, T) with more contrast and the same power in every frame."""
        sharp = magnitude**self.sharpness
        return sharp * (magnitude.norm(dim=1, keepdim=True) / sharp.norm(dim=1, keepdim=True))

    def _stft(self, wav: Tensor) -> Tensor:
        return torch.stft(wav, **self._transform, pad_mode="constant", return_complex=True)

    def _istft(self, spectrum: Tensor, held: Tensor | None) -> Tensor:
        """The wav of a spectrum, whose beginning becomes, and fades out of, what is held."""
        hop = self.mel.hop_length
        wav = torch.istft(spectrum, **self._transform, length=(spectrum.shape[-1] - 1) * hop)
        if held is not None:
            n_held = held.shape[1]
            weight = torch.linspace(0, 1, hop, device=wav.device)
            fading = torch.lerp(held[:, -hop:], wav[:, n_held - hop : n_held], weight)
            wav = torch.cat([held[:, :-hop], fading, wav[:, n_held:]], dim=1)
        return wav

    @property
    def _transform(self) -> dict:
        return {
            "n_fft": self.mel.settings["n_fft"],
            "hop_length": self.mel.hop_length,
            "win_length": self.mel.settings["win_length"],
            "window": self.mel.window,
        }
