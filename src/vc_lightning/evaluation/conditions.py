"""Worse recording conditions: changes of the sound of sources and of target voices."""

import io
from collections.abc import Callable

import numpy as np
import scipy
import soundfile

from vc_lightning.audio import voice_activity
from vc_lightning.audio.files import io as audio

Change = Callable[[np.ndarray, int], np.ndarray]  # wav (n,) and its rate in Hz -> changed wav

GAIN_DB = 12.0
QUIETER_DB = -20.0
DC_OFFSET = 0.25  # of the peak
HUM_HZ = 50
HUM_AMPLITUDES = (1.0, 0.5, 0.25)  # of 50, 100 and 150 Hz
HUM_DB = -20.0  # all three together, relative to the recording
DIRECT_DB = 0.0  # direct sound relative to all reverberation
FIRST_ECHO_SECONDS = 0.005
TELEPHONE_HZ = 8_000
WHISPER_QUEFRENCY_SECONDS = 0.0015  # of the spectral envelope; the pitch of voices is above 2 ms
MP3_KBITS = 64
# Lowest and highest bit rate of MP3 in kbit/s, by the lowest sample rate in Hz that has them.
MP3_RANGES = {32_000: (32, 320), 16_000: (8, 160), 0: (8, 64)}


def quieter(wav: np.ndarray, _: int) -> np.ndarray:
    """Lower the level by 20 dB."""
    return voice_activity.amplify(wav, QUIETER_DB)


def louder(wav: np.ndarray, _: int) -> np.ndarray:
    """Raise the level by 12 dB; floating-point samples may exceed full scale."""
    return voice_activity.amplify(wav, GAIN_DB)


def clipped(wav: np.ndarray, _: int) -> np.ndarray:
    """Raise the peak to 12 dB above full scale, and clip at full scale, a quarter of the peak."""
    return voice_activity.amplify(wav / np.abs(wav).max(), GAIN_DB).clip(-1, 1)


def offset(wav: np.ndarray, _: int) -> np.ndarray:
    """Add a DC offset of a quarter of the peak."""
    return wav + DC_OFFSET * np.abs(wav).max()


def humming(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Add mains hum of 50 Hz with two harmonics, 20 dB below the recording."""
    seconds = np.arange(len(wav)) / sample_rate
    hum = np.zeros(len(wav))
    for order, amplitude in enumerate(HUM_AMPLITUDES, start=1):
        hum += amplitude * np.sin(2 * np.pi * HUM_HZ * order * seconds)
    hum = hum.astype(np.float32)
    return wav + voice_activity.amplify(
        hum, voice_activity.rms_dbfs(wav) + HUM_DB - voice_activity.rms_dbfs(hum)
    )


def reverberant(seconds: float) -> Change:
    """Make a room: decaying noise, as strong as the direct sound, 60 dB quieter after `seconds`."""

    def change(wav: np.ndarray, sample_rate: int) -> np.ndarray:
        times = np.arange(round(seconds * sample_rate)) / sample_rate
        room = np.random.default_rng(0).standard_normal(len(times))
        room *= 10 ** (-3 * times / seconds) * (times >= FIRST_ECHO_SECONDS)
        room *= 10 ** (-DIRECT_DB / 20) / np.sqrt(np.square(room).sum())
        room[0] = 1
        return scipy.signal.fftconvolve(wav, room)[: len(wav)].astype(np.float32)

    return change


def noisy(snr_db: float) -> Change:
    """Add pink noise, so many dB below the recording's speech."""

    def change(wav: np.ndarray, _: int) -> np.ndarray:
        noise = pink_noise(len(wav))
        level = voice_activity.rms_dbfs(wav) - snr_db
        return wav + voice_activity.amplify(noise, level - voice_activity.rms_dbfs(noise))

    return change


def pink_noise(n: int) -> np.ndarray:
    """Return noise (n,) whose power falls by 3 dB an octave, as that of rooms and streets does."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(n))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    return np.fft.irfft(spectrum, n).astype(np.float32)


def whispered(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Replace the excitation by noise: the spectral envelopes of the speech, without pitch."""
    _, _, speech = scipy.signal.stft(wav, sample_rate, nperseg=512)
    _, _, noise = scipy.signal.stft(
        np.random.default_rng(0).standard_normal(len(wav)), sample_rate, nperseg=512
    )
    cepstrum = np.fft.irfft(np.log(np.abs(speech) + 1e-8), axis=0)
    kept = round(WHISPER_QUEFRENCY_SECONDS * sample_rate)
    cepstrum[kept : len(cepstrum) - kept] = 0
    envelope = np.exp(np.fft.rfft(cepstrum, axis=0).real)
    _, wav = scipy.signal.istft(envelope * noise / np.abs(noise).mean(), sample_rate, nperseg=512)
    return wav.astype(np.float32)


def telephone(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Resample to 8 kHz and back, which removes all above 4 kHz."""
    narrow = audio.resample(wav, sample_rate, TELEPHONE_HZ)
    return _of_length(audio.resample(narrow, TELEPHONE_HZ, sample_rate), len(wav))


def shortened(seconds: float) -> Change:
    """Keep the first seconds; nothing of a recording that has fewer."""

    def change(wav: np.ndarray, sample_rate: int) -> np.ndarray:
        length = round(seconds * sample_rate)
        return wav[: length if len(wav) >= length else 0]

    return change


def mp3(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Encode as MP3 (libsndfile's LAME) at a constant bit rate of 64 kbit/s, and decode."""
    file = io.BytesIO(mp3_bytes(wav, sample_rate))
    return _of_length(soundfile.read(file, dtype="float32")[0], len(wav))


def mp3_bytes(wav: np.ndarray, sample_rate: int) -> bytes:
    """Encode wav (n,) as an MP3 file of constant bit rate.

    libsndfile's compression level is the position of the bit rate between the highest (0) and the
    lowest (1) bit rate of MP3 at a sample rate.
    """
    low, high = next(both for rate, both in MP3_RANGES.items() if sample_rate >= rate)
    file = io.BytesIO()
    soundfile.write(
        file,
        wav / max(1.0, np.abs(wav).max()),
        sample_rate,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT",
        compression_level=(high - MP3_KBITS) / (high - low),
    )
    return file.getvalue()


def _of_length(wav: np.ndarray, length: int) -> np.ndarray:
    return np.pad(wav, (0, max(0, length - len(wav))))[:length]


SOURCES: dict[str, Change] = {
    "20 dB quieter": quieter,
    "12 dB louder, not clipped": louder,
    "12 dB above full scale, clipped": clipped,
    "DC offset of a quarter of the peak": offset,
    "50 Hz hum, 20 dB below": humming,
    "noise, 20 dB below": noisy(20),
    "noise, 10 dB below": noisy(10),
    "noise, 5 dB below": noisy(5),
    "room, 0.3 s of reverberation": reverberant(0.3),
    "room, 0.6 s of reverberation": reverberant(0.6),
    "room, 1 s of reverberation": reverberant(1.0),
    "sampled at 8 kHz (telephone)": telephone,
    "mp3 at 64 kbit/s": mp3,
    "whispered": whispered,
}
SECOND_SPEAKERS = {  # level of the other recording in dB, relative to the recording
    "a second speaker, as loud": 0.0,
    "a second speaker, 10 dB below": -10.0,
}
TARGETS: dict[str, Change] = {
    "target of 1 s": shortened(1.0),
    "target of 3 s": shortened(3.0),
    "target of 10 s": shortened(10.0),
    "target of 60 s": shortened(60.0),
    "target with noise, 10 dB below": noisy(10),
}


def with_second_speaker(wav: np.ndarray, other: np.ndarray, level_db: float) -> np.ndarray:
    """Add another recording, repeated or cut to the same length.

    Args:
        wav: float32 (n,), the recording.
        other: float32 (m,), the other recording.
        level_db: Level of the other recording, relative to the recording.
    """
    other = np.resize(other, len(wav))
    level = voice_activity.rms_dbfs(wav) + level_db
    return wav + voice_activity.amplify(other, level - voice_activity.rms_dbfs(other))


def is_available(change: Change) -> bool:
    """Return whether this machine can make a change: not every libsndfile writes MP3."""
    return change is not mp3 or "MP3" in soundfile.available_formats()
