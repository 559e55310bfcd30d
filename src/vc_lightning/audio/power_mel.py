"""The input of the speaker encoder GE2E: mel power of speech without pauses."""

import numpy as np
import torch
from torch import Tensor, nn

from vc_lightning.audio import voice_activity
from vc_lightning.audio.files import io
from vc_lightning.audio.mel_filters import mel_filters, power_spectra
from vc_lightning.common.errors import InputError


class PowerMel(nn.Module):
    """Mel power (no logarithm) of speech without pauses, as of Resemblyzer 0.1.4."""

    sample_rate = voice_activity.VAD_SAMPLE_RATE
    hop_length = 160  # 10 ms
    n_fft = 400  # 25 ms
    n_mels = 40
    filters: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", self.vtlp_filters(1.0), persistent=False)
        self.register_buffer("window", torch.hann_window(self.n_fft), persistent=False)

    def prepare(self, wav: np.ndarray, sample_rate: int) -> np.ndarray:
        """Cut the pauses out of a recording (n,) and resample it.

        Raises:
            InputError: Too little speech is left.
        """
        speech = voice_activity.trim_silences(io.resample(wav, sample_rate, self.sample_rate))
        seconds = len(speech) / self.sample_rate
        if seconds == 0:
            raise InputError("no speech found by the voice activity detector")
        if seconds < voice_activity.MIN_SECONDS:
            raise InputError(
                f"{seconds:.2f} s of speech are too short for the speaker encoder; "
                f"give at least {voice_activity.MIN_SECONDS} s"
            )
        return speech

    def vtlp_filters(self, factor: float) -> Tensor:
        """Return mel filters (40, 201) that multiply every frequency by a VTLP factor."""
        fmax = self.sample_rate / 2
        return mel_filters(self.sample_rate, self.n_fft, self.n_mels, 0, fmax, factor)

    def forward(self, wav: Tensor, filters: Tensor | None = None) -> Tensor:
        """Compute mel power (..., 40, n // 160 + 1) of samples (..., n) at 16 kHz."""
        filters = self.filters if filters is None else filters
        blocks = power_spectra(wav, self.n_fft, self.hop_length, self.window, pad_mode="constant")
        return torch.cat([filters @ power for power in blocks], dim=-1)
