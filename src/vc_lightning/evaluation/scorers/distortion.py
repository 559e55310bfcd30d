"""Score the mel-cepstral distance to the target's recording of the same text."""

from collections.abc import Sequence

import librosa
import numpy as np
from scipy import fft

from vc_lightning.audio.mel import DB_PER_UNIT
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.evaluation.scores import ScoredConversion

N_CEPSTRA = 24  # as usual at 16 kHz; without the 0th, which is the level


def score(converter: VoiceConverter, conversions: Sequence[ScoredConversion]) -> None:
    """Set the mel-cepstral distortion of pairs with a parallel recording."""
    rate = converter.sample_rate
    for conversion in conversions:
        if conversion.pair.parallel is None or not conversion.scores.has_speech:
            continue
        sounds, scores = conversion.sounds, conversion.scores
        wavs = converter.load(conversion.pair.parallel), sounds.source, sounds.conversion
        target, before, after = (converter.mel.extract(wav, rate) for wav in wavs)
        scores["distortion/before"] = mel_cepstral_distortion(target, before)
        scores["distortion/conversion"] = mel_cepstral_distortion(target, after)


def mel_cepstral_distortion(mel: np.ndarray, other: np.ndarray) -> float:
    """Compute the mel-cepstral distortion in dB of two recordings of one text (Kubichek 1993).

    Frames are aligned by dynamic time warping. Of the cepstra, c_1 … c_24 are compared, not the
    level c_0.

    Args:
        mel: Mel (n_mels, T) in 0…1 of `MelSpectrogram`.
        other: Mel (n_mels, T') to compare with.
    """
    cepstra = [cepstrum(values) for values in (mel, other)]
    _, path = librosa.sequence.dtw(*cepstra, metric="euclidean")
    steps = cepstra[0][:, path[:, 0]] - cepstra[1][:, path[:, 1]]
    distances = np.sqrt(2 * (steps**2).sum(axis=0))  # of each pair of frames
    return float(10 / np.log(10) * distances.mean())


def cepstrum(mel: np.ndarray) -> np.ndarray:
    """Compute c_1 … c_24 (24, T) of a mel: ln|H| = c_0 + Σ c_m cos(mω) on the mel scale.

    Args:
        mel: Mel (n_mels, T) in 0…1.
    """
    log_amplitude = np.asarray(mel, dtype=float) * DB_PER_UNIT * np.log(10) / 20
    return fft.dct(log_amplitude, type=2, axis=0)[1 : N_CEPSTRA + 1] / len(mel)
