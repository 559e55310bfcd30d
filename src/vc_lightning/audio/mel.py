"""The mel-spectrogram of the converter and the vocoders, and what its values mean."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from vc_lightning.audio import highpass, voice_activity
from vc_lightning.audio.files import io
from vc_lightning.audio.mel_filters import mel_filters, mel_frequencies, power_spectra
from vc_lightning.audio.pitch import FMIN_HZ
from vc_lightning.common.errors import InputError, require_at_least, require_within

MAX_N_FFT = 2**16  # more than a second at any usual sample rate
AMPLITUDE_FLOOR = 1e-5  # -100 dB
DB_PER_UNIT = 100  # of a mel, whose values 0…1 span 100 dB
DECONVOLUTION_ROUNDS = 9
REFERENCE_HZ = 150  # between the voices of men and women


class MelSpectrogram(nn.Module):
    """Log-mel in 0…1: clip((20·log10(max(1e-5, M·|STFT|)) − ref_db + 100) / 100, 0, 1).

    Mels are absolute values, so every recording is brought to one level first (`prepare`), in
    training and in conversion alike; the level is part of the settings. AutoVC's own recipe also
    adds noise of 1e-6 before the transform. It changes no value by more than 0.001 and is left out.

    Args:
        sample_rate: In Hz.
        n_fft: Length of the Fourier transform in samples.
        hop_length: Samples between two frames.
        win_length: Length of the window in samples.
        n_mels: Number of mel bands.
        fmin: Lowest frequency in Hz.
        fmax: Highest frequency in Hz; None for half the sample rate.
        ref_db: Level in dB that is mapped to 1.
        highpass_hz: Cut-off frequency of a high-pass in Hz; None for no filter.
        gain: Factor between the filter and the transform.
        level_dbfs: RMS of the speech in every recording, in dB of full scale.

    Attributes:
        settings: The arguments as given, for comparisons and for the headers of weight files.

    Raises:
        InputError: A value lies outside its range.
    """

    filters: Tensor  # (n_mels, n_fft/2 + 1)
    window: Tensor
    band_centres: Tensor  # (n_mels,) in Hz
    band_widths: Tensor

    def __init__(
        self,
        *,
        sample_rate: int,
        n_fft: int,
        hop_length: int,
        win_length: int,
        n_mels: int,
        fmin: float,
        fmax: float | None,
        ref_db: float,
        highpass_hz: float | None,
        gain: float,
        level_dbfs: float,
    ):
        arguments = dict(locals())
        super().__init__()
        own = ("self", "__class__")
        self.settings = {name: value for name, value in arguments.items() if name not in own}
        require_at_least(1, "mel", sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels)
        require_at_least(1, "mel", hop_length=hop_length, win_length=win_length)
        require_within(1, io.MAX_SAMPLE_RATE + 1, "mel", sample_rate=sample_rate)
        require_within(0, sample_rate / 2, "mel", fmin=fmin)
        if fmax is not None:
            require_within(fmin, sample_rate / 2 + 1, "mel", fmax=fmax)
        if highpass_hz is not None:
            require_within(1, sample_rate / 2, "mel", highpass_hz=highpass_hz)
        require_within(-200, 200, "mel", ref_db=ref_db, level_dbfs=level_dbfs)
        require_within(1e-3, 1e3, "mel", gain=gain)
        if n_fft > MAX_N_FFT:
            raise InputError(f"mel.n_fft={n_fft}: give at most {MAX_N_FFT}")
        if n_mels > n_fft // 2 + 1:
            raise InputError(f"mel.n_mels={n_mels} are more than mel.n_fft={n_fft} has frequencies")
        if win_length > n_fft:
            raise InputError(f"mel.win_length={win_length} is longer than mel.n_fft={n_fft}")
        if hop_length > win_length:
            raise InputError(
                f"mel.hop_length={hop_length} is longer than mel.win_length={win_length}, so that "
                "samples between two windows would be lost"
            )
        self.sample_rate = sample_rate
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.win_length = win_length
        self.n_mels = n_mels
        self.fmin = fmin
        self.fmax = fmax or sample_rate / 2
        self.ref_db = ref_db
        self.highpass_hz = highpass_hz
        self.gain = gain
        self.level_dbfs = level_dbfs
        self.register_buffer("filters", self.vtlp_filters(1.0), persistent=False)
        self.register_buffer("window", torch.hann_window(win_length), persistent=False)
        edges = mel_frequencies(n_mels + 2, self.fmin, self.fmax)
        bands = torch.from_numpy(edges.astype(np.float32))
        self.register_buffer("band_centres", bands[1:-1], persistent=False)
        self.register_buffer("band_widths", bands.diff()[1:], persistent=False)

    def prepare(self, wav: np.ndarray, sample_rate: int) -> np.ndarray:
        """Resample a recording (n,), bring it to the level and filter it, for `forward`.

        Args:
            wav: Samples (n,).
            sample_rate: Their rate in Hz.

        Raises:
            InputError: The recording is too short or holds no speech.
        """
        return self.filtered(self.leveled(wav, sample_rate))

    def leveled(self, wav: np.ndarray, sample_rate: int) -> np.ndarray:
        """Resample and level: the first half of `prepare`, also the input of a speaker encoder."""
        wav = io.resample(wav, sample_rate, self.sample_rate)
        return voice_activity.level(wav, self.sample_rate, self.level_dbfs)

    def filtered(self, wav: np.ndarray) -> np.ndarray:
        """Do the second half of `prepare`, for samples (n,) that `leveled` returned."""
        if self.highpass_hz is not None:
            wav = highpass.filter_zero_phase(wav, self.sample_rate, self.highpass_hz)
        return (wav * self.gain).astype(np.float32)

    def vtlp_filters(self, factor: float) -> Tensor:
        """Return filters (n_mels, n_fft/2 + 1) that multiply every frequency by a VTLP factor."""
        return mel_filters(self.sample_rate, self.n_fft, self.n_mels, self.fmin, self.fmax, factor)

    def forward(self, wav: Tensor, filters: Tensor | None = None) -> Tensor:
        """Compute mels.

        Args:
            wav: Prepared samples (..., n).
            filters: Filters in place of `self.filters`. Several of them (K, n_mels, n_fft/2 + 1)
                turn one wav (n,) into mels (K, n_mels, T).

        Returns:
            Mels (..., n_mels, n // hop_length + 1).
        """
        filters = self.filters if filters is None else filters
        mels = [self.logarithm(filters @ power.sqrt()).clamp(0, 1) for power in self._powers(wav)]
        return torch.cat(mels, dim=-1)

    def harmonics(self, f0: Tensor) -> Tensor:
        """Compute the pitch features of a network with F0 inputs.

        Args:
            f0: Pitch (B, T) in Hz, 0 in unvoiced frames.

        Returns:
            (B, n_mels + 2, T): whether the frame is voiced; its pitch in octaves; and for each band
            a cosine that is 1 at harmonics of the pitch, damped in bands too wide to resolve them.
        """
        voiced = (f0 > 0).to(f0.dtype)[:, None]
        pitch = f0.clamp(min=FMIN_HZ)[:, None]
        height = torch.log2(pitch / REFERENCE_HZ)
        resolved = torch.exp(-2 * (self.band_widths[:, None] / pitch).square())
        comb = resolved * torch.cos(2 * torch.pi * self.band_centres[:, None] / pitch)
        return torch.cat([voiced, voiced * height, voiced * comb], dim=1)

    def _powers(self, wav: Tensor) -> Iterator[Tensor]:
        return power_spectra(wav, self.n_fft, self.hop_length, self.window, pad_mode="reflect")

    def logarithm(self, amplitude: Tensor) -> Tensor:
        """Convert amplitudes after `gain` to the scale of the mel, in which 1 dB is 0.01."""
        decibels = 20 * torch.log10(amplitude.clamp(min=AMPLITUDE_FLOOR))
        return (decibels - self.ref_db + DB_PER_UNIT) / DB_PER_UNIT

    def log_magnitude(self, wav: Tensor) -> Tensor:
        """Compute log-|STFT| (..., n_fft/2 + 1, T) of prepared samples (..., n)."""
        return torch.cat([self.logarithm(power.sqrt()) for power in self._powers(wav)], dim=-1)

    def amplitude(self, mel: Tensor) -> Tensor:
        """Undo the logarithm: convert mels to M·|STFT| of the recording before `gain`."""
        decibels = mel * DB_PER_UNIT - DB_PER_UNIT + self.ref_db
        return 10 ** (decibels / 20) / self.gain

    def spectrum(self, mel: Tensor) -> Tensor:
        """Estimate the linear-frequency spectrum of a mel.

        A few rounds of Richardson–Lucy deconvolution start from a flat spectrum. The result has no
        negative values, unlike that of a pseudo-inverse.

        Args:
            mel: Mels (..., n_mels, T).

        Returns:
            log-|STFT| (..., n_fft/2 + 1, T) in the scale of the mel.
        """
        spread = self.filters.T
        coverage = spread.sum(dim=1, keepdim=True).clamp(min=AMPLITUDE_FLOOR)
        amplitude = self.amplitude(mel) * self.gain
        spectrum = torch.ones_like(coverage)
        for _ in range(DECONVOLUTION_ROUNDS):
            ratio = amplitude / (self.filters @ spectrum).clamp(min=AMPLITUDE_FLOOR**2)
            spectrum = spectrum * (spread @ ratio) / coverage
        return self.logarithm(spectrum)

    @torch.inference_mode()
    def extract(self, wav: np.ndarray, sample_rate: int) -> np.ndarray:
        """Compute the mel (n_mels, T) of a recording (n,) of any rate and level."""
        prepared = torch.from_numpy(self.prepare(wav, sample_rate))
        return self(prepared.to(self.window.device)).cpu().numpy()


def n_harmonics(n_mels: int) -> int:
    """Return how many numbers `MelSpectrogram.harmonics` gives for each frame."""
    return n_mels + 2


def require_same_settings(settings: dict, other: dict, name: str, other_name: str) -> None:
    """Check that two parts have the same mel settings.

    Args:
        settings: Settings of the first part.
        other: Settings of the second part.
        name: Name of the first part, for error messages.
        other_name: Name of the second part.

    Raises:
        InputError: They differ; the message names every such setting and both values.
    """
    differing = [
        f"{key} {settings.get(key)} != {other.get(key)}"
        for key in sorted(settings.keys() | other.keys())
        if settings.get(key) != other.get(key)
    ]
    if differing:
        raise InputError(
            f"mel settings of {name} and {other_name} differ ({', '.join(differing)}); "
            "use two that were made with the same `mel=`"
        )
