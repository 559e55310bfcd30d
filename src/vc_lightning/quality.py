"""What a recording is like: length, noise, clipping, silence."""

from dataclasses import dataclass

import numpy as np

from vc_lightning import audio

FRAME_MS = 30
QUIET_SHARE = 0.1  # of the frames, the quietest: taken for the noise between the words
FULL_SCALE = 0.999
CLIPPED_RUN = 3  # samples in a row; single ones at full scale are peaks, not clipping


@dataclass(frozen=True)
class Quality:
    """Attributes:
    seconds: length; `sample_rate`: as recorded, in Hz.
    peak_dbfs: highest sample, in dB of full scale.
    snr_db: power of the voiced part over that of the quietest tenth.
    clipped: share of the samples that lie in runs at the recording's own full scale.
    voiced: share of the recording that holds speech.
    """

    seconds: float
    sample_rate: int
    peak_dbfs: float
    snr_db: float
    clipped: float
    voiced: float


def measure(wav: np.ndarray, sample_rate: int) -> Quality:
    """The quality of a recording (n,) that holds sound."""
    wav16 = audio.resample(wav, sample_rate, audio.VAD_SAMPLE_RATE)
    mask = audio.speech_mask(wav16)
    speech = wav16[: len(mask)][mask]
    return Quality(
        seconds=round(len(wav) / sample_rate, 3),
        sample_rate=sample_rate,
        peak_dbfs=round(float(20 * np.log10(np.abs(wav).max(initial=1e-10))), 1),
        snr_db=round(audio.rms_dbfs(speech) - noise_dbfs(wav16), 1) if len(speech) else 0.0,
        clipped=round(clipped_share(wav), 6),
        voiced=round(float(mask.mean()), 3) if len(mask) else 0.0,
    )


def noise_dbfs(wav: np.ndarray) -> float:
    """RMS of the quietest tenth of wav (n,) at 16 kHz, in frames of 30 ms, in dB of full scale."""
    size = audio.VAD_SAMPLE_RATE * FRAME_MS // 1000
    frames = wav[: len(wav) // size * size].reshape(-1, size)
    if not len(frames):
        return audio.rms_dbfs(wav)
    power = np.sort(np.square(frames, dtype=np.float64).mean(axis=1))
    return audio.rms_dbfs(np.sqrt(power[: max(1, round(QUIET_SHARE * len(power)))]))


def clipped_share(wav: np.ndarray) -> float:
    """Share of the samples of wav (n,) that lie in runs of three or more at its largest value."""
    peak = np.abs(wav).max(initial=0.0)
    at_peak = np.abs(wav) >= FULL_SCALE * peak
    edges = np.flatnonzero(np.diff(np.concatenate([[0], at_peak.astype(np.int8), [0]])))
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= CLIPPED_RUN].sum() / max(1, len(wav)))
