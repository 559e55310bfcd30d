"""Measure a recording's length, noise, clipping and share of speech."""

from dataclasses import dataclass

import numpy as np

from vc_lightning.audio import voice_activity
from vc_lightning.audio.files import io

FRAME_MS = 30
# Share of the frames, the quietest ones, that count as noise between words. In 2 s of trimmed
# speech only about 5 % are pauses; with 10 %, clean speech would seem 20 dB noisier.
QUIET_SHARE = 0.05
SNR_DB = (-10.0, 80.0)  # range; values beyond it are due to rounding
FULL_SCALE = 0.999
CLIPPED_RUN = 3  # samples in a row; single ones at full scale are peaks, not clipping


@dataclass(frozen=True)
class Quality:
    """The quality of a recording.

    Attributes:
        seconds: Length.
        sample_rate: Rate of the file in Hz.
        peak_dbfs: Highest sample, in dB of full scale.
        snr_db: Ratio of speech to noise in dB; see the function `snr_db`.
        clipped: Share of the samples in runs at the recording's own full scale.
        voiced: Share of the recording that holds speech.
    """

    seconds: float
    sample_rate: int
    peak_dbfs: float
    snr_db: float
    clipped: float
    voiced: float


def measure(wav: np.ndarray, sample_rate: int, speech: np.ndarray | None = None) -> Quality:
    """Measure the quality of a recording.

    Args:
        wav: Samples (n,), n > 0.
        sample_rate: In Hz.
        speech: Whether each window of 30 ms holds speech, see `Level`; None: it is detected.
    """
    wav16 = io.resample(wav, sample_rate, voice_activity.VAD_SAMPLE_RATE)
    if speech is None:
        speech = voice_activity.speech_windows(wav16)
    mask = np.repeat(speech, voice_activity.VAD_WINDOW)
    return Quality(
        seconds=round(len(wav) / sample_rate, 3),
        sample_rate=sample_rate,
        peak_dbfs=round(float(20 * np.log10(np.abs(wav).max(initial=1e-10))), 1),
        snr_db=round(snr_db(wav16, mask), 1),
        clipped=round(clipped_share(wav), 6),
        voiced=round(float(mask.mean()), 3) if len(mask) else 0.0,
    )


def snr_db(wav: np.ndarray, voiced: np.ndarray) -> float:
    """Return the ratio of speech to noise in dB.

    The power of the noise is that of the quietest twentieth of all frames of 30 ms. The power of
    the speech is that of the voiced part minus the noise. Noise that fluctuates is underestimated:
    with babble the ratio comes out 5 dB too high.

    Args:
        wav: Samples (n,) at 16 kHz.
        voiced: Whether each sample is speech (m,), m ≤ n.
    """
    wav = wav.astype(np.float64) - wav.mean(dtype=np.float64)  # a constant offset is not noise
    size = voice_activity.VAD_SAMPLE_RATE * FRAME_MS // 1000
    power = np.sort(np.square(wav[: len(wav) // size * size]).reshape(-1, size).mean(axis=1))
    if not voiced.any():
        return SNR_DB[0]
    noise = power[: max(1, round(QUIET_SHARE * len(power)))].mean()
    speech = np.square(wav[: len(voiced)][voiced]).mean() - noise
    return float(np.clip(10 * np.log10(max(speech, 1e-12) / max(noise, 1e-12)), *SNR_DB))


def clipped_share(wav: np.ndarray) -> float:
    """Return the share of the samples (n,) in runs of three or more at the largest value."""
    peak = np.abs(wav).max(initial=0.0)
    at_peak = np.abs(wav) >= FULL_SCALE * peak
    edges = np.flatnonzero(np.diff(np.concatenate([[0], at_peak.astype(np.int8), [0]])))
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= CLIPPED_RUN].sum() / max(1, len(wav)))
