"""What a recording is like: length, noise, clipping, silence."""

from dataclasses import dataclass

import numpy as np

from vc_lightning.audio import io as audio
from vc_lightning.audio import voice_activity

FRAME_MS = 30
# Of the frames, the quietest are taken for the noise between the words. In 2 s of trimmed speech
# hardly more than a twentieth are pauses: a tenth reads clean ones as 20 dB noisier than they are.
QUIET_SHARE = 0.05
SNR_DB = (-10.0, 80.0)  # beyond these it is no longer a measurement but rounding
FULL_SCALE = 0.999
CLIPPED_RUN = 3  # samples in a row; single ones at full scale are peaks, not clipping


@dataclass(frozen=True)
class Quality:
    """Attributes:
    seconds: length; `sample_rate`: as recorded, in Hz.
    peak_dbfs: highest sample, in dB of full scale.
    snr_db: power of the speech over that of the noise between the words, see `snr_db`.
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
    wav16 = audio.resample(wav, sample_rate, voice_activity.VAD_SAMPLE_RATE)
    mask = voice_activity.speech_mask(wav16)
    return Quality(
        seconds=round(len(wav) / sample_rate, 3),
        sample_rate=sample_rate,
        peak_dbfs=round(float(20 * np.log10(np.abs(wav).max(initial=1e-10))), 1),
        snr_db=round(snr_db(wav16, mask), 1),
        clipped=round(clipped_share(wav), 6),
        voiced=round(float(mask.mean()), 3) if len(mask) else 0.0,
    )


def snr_db(wav: np.ndarray, voiced: np.ndarray) -> float:
    """Ratio in dB of speech to noise in wav (n,) at 16 kHz, given where somebody speaks (m,).

    The noise is the quietest twentieth of all frames of 30 ms, the speech what the voiced part has
    beyond it. Noise that fluctuates is underestimated: babble reads 5 dB better than it is.
    """
    wav = wav.astype(np.float64) - wav.mean(dtype=np.float64)  # an offset is no noise
    size = voice_activity.VAD_SAMPLE_RATE * FRAME_MS // 1000
    power = np.sort(np.square(wav[: len(wav) // size * size]).reshape(-1, size).mean(axis=1))
    if not voiced.any():
        return SNR_DB[0]
    noise = power[: max(1, round(QUIET_SHARE * len(power)))].mean()
    speech = np.square(wav[: len(voiced)][voiced]).mean() - noise
    return float(np.clip(10 * np.log10(max(speech, 1e-12) / max(noise, 1e-12)), *SNR_DB))


def clipped_share(wav: np.ndarray) -> float:
    """Share of the samples of wav (n,) that lie in runs of three or more at its largest value."""
    peak = np.abs(wav).max(initial=0.0)
    at_peak = np.abs(wav) >= FULL_SCALE * peak
    edges = np.flatnonzero(np.diff(np.concatenate([[0], at_peak.astype(np.int8), [0]])))
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= CLIPPED_RUN].sum() / max(1, len(wav)))
