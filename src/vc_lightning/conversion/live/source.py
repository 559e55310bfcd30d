"""Running estimates of a speaker: level, embedding and pitch range."""

from collections import deque

import numpy as np
import webrtcvad

from vc_lightning.audio import voice_activity
from vc_lightning.audio.pitch import IQR_OF_NORMAL, PitchRange
from vc_lightning.common.errors import InputError
from vc_lightning.models.speaker_encoder import SpeakerEncoder

EXPECTED_DBFS = -26.0  # level of speech before any speech was detected
EXPECTED_WINDOWS = 3  # weight of that guess, in windows of 30 ms
MEMORY_WINDOWS = 667  # half-life of a window's weight: 20 s of speech
QUIETEST_DBFS = -65.0  # below this no window counts as speech
LOUDNESS_WINDOWS = 100  # 3 s, whose loud windows bound the level of speech
LOUD_PERCENTILE, SOFT_PERCENTILE = 95, 10
MIN_SPREAD_DB = 12.0  # from soft to loud windows, if these are pauses and speech
SILENT_POWER = 1e-12  # -120 dBFS
MAX_DB_PER_SECOND = 40.0  # fastest change of the gain
FIRST_SPEECH_SECONDS = 0.8  # speech before the first embedding
SPEECH_HOP_SECONDS = 0.8  # speech from one embedding to the next
SPEECH_SECONDS = 1.7  # speech in one embedding
MAX_EMBEDDINGS = 24  # averaged: those of the last 20 s of speech
PITCH_FRAMES = 2048  # voiced frames in the estimate of the pitch range: 33 s at 16 ms
PRIOR_FRAMES = 60  # weight of the expected spread, in voiced frames
EXPECTED_SPREAD = 0.25  # octaves


class RunningSource:
    """Estimate a speaker's level and embedding while they speak, in constant memory.

    Args:
        encoder: Makes the embeddings.
        level_dbfs: Level of speech that the mels expect.
        embedding: Embedding (dim_emb,) until there is an estimate, or always if `is_known`.
        is_known: Whether `embedding` is the speaker's own.
    """

    def __init__(
        self, encoder: SpeakerEncoder, level_dbfs: float, embedding: np.ndarray, is_known: bool
    ):
        self.encoder = encoder
        self.level_dbfs = level_dbfs
        self.embedding = embedding
        self.is_known = is_known
        self.gain_db = level_dbfs - EXPECTED_DBFS
        # Of the windows with speech, and their number; old windows count less.
        self._energy = self._weight = 0.0
        self._vad = webrtcvad.Vad(voice_activity.VAD_MODE)
        self._loudness: deque[float] = deque(maxlen=LOUDNESS_WINDOWS)
        self._rest = np.zeros(0, np.float32)
        self._speech = np.zeros(0, np.float32)
        self._n_new = 0  # samples of speech since the last embedding
        self._embeddings: deque[np.ndarray] = deque(maxlen=MAX_EMBEDDINGS)

    @property
    def speech_dbfs(self) -> float:
        """Estimated level of the speech in dBFS, at first close to `EXPECTED_DBFS`."""
        measured = 10 * np.log10(self._energy / self._weight) if self._weight else EXPECTED_DBFS
        total = self._weight * measured + EXPECTED_WINDOWS * EXPECTED_DBFS
        return float(total / (self._weight + EXPECTED_WINDOWS))

    def push(self, wav: np.ndarray) -> None:
        """Update the estimates by the next samples (n,) at 16 kHz."""
        wav = np.concatenate([self._rest, wav])
        n_windows = len(wav) // voice_activity.VAD_WINDOW
        windows = wav[: n_windows * voice_activity.VAD_WINDOW].reshape(
            -1, voice_activity.VAD_WINDOW
        )
        self._rest = wav[n_windows * voice_activity.VAD_WINDOW :]
        speech = [window for window in windows if self._is_speech(window)]
        seconds = len(wav) / voice_activity.VAD_SAMPLE_RATE
        change = self.level_dbfs - self.speech_dbfs - self.gain_db
        most = MAX_DB_PER_SECOND * seconds
        self.gain_db += float(np.clip(change, -most, most))
        if speech and not self.is_known:
            self._embed(np.concatenate(speech))

    def _is_speech(self, window: np.ndarray) -> bool:
        """Return whether a window holds speech; if it does, update the level."""
        power = float(np.square(window, dtype=np.float64).mean())
        self._loudness.append(10 * np.log10(max(power, SILENT_POWER)))
        scaled = voice_activity.amplify(window, voice_activity.VAD_LEVEL_DBFS - self._possible_dbfs)
        pcm = voice_activity.int16(scaled).tobytes()
        is_speech = self._vad.is_speech(pcm, voice_activity.VAD_SAMPLE_RATE)
        if not is_speech or power < 10 ** (QUIETEST_DBFS / 10):
            return False
        keep = 0.5 ** (1 / MEMORY_WINDOWS)
        self._energy = keep * self._energy + power
        self._weight = keep * self._weight + 1
        return True

    @property
    def _possible_dbfs(self) -> float:
        """Level in dBFS that speech in the next window may have.

        It is the estimated level, or that of the last loud windows if they are so much softer
        that their speech would never be detected.
        """
        soft, loud = np.percentile(self._loudness, [SOFT_PERCENTILE, LOUD_PERCENTILE])
        may_be_speech = loud - soft >= MIN_SPREAD_DB and loud < self.speech_dbfs - MIN_SPREAD_DB
        return float(max(loud, QUIETEST_DBFS)) if may_be_speech else self.speech_dbfs

    def _embed(self, speech: np.ndarray) -> None:
        rate = voice_activity.VAD_SAMPLE_RATE
        self._speech = np.concatenate([self._speech, speech])[-int(SPEECH_SECONDS * rate) :]
        self._n_new += len(speech)
        wanted = SPEECH_HOP_SECONDS if self._embeddings else FIRST_SPEECH_SECONDS
        if self._n_new < wanted * rate:
            return
        self._n_new = 0
        leveled = voice_activity.amplify(self._speech, self.level_dbfs - self.speech_dbfs)
        try:
            self._embeddings.append(self.encoder.embed_utterance(leveled))
        except InputError:  # the encoder's own detector found hardly any speech
            return
        self.embedding = self.encoder.average(list(self._embeddings))


class RunningPitch:
    """Estimate the pitch range of recent speech.

    Args:
        known: The speaker's range, which is kept; None to estimate it.
    """

    def __init__(self, known: PitchRange | None):
        self.known = known
        self._octaves: deque[float] = deque(maxlen=PITCH_FRAMES)

    def push(self, f0: np.ndarray) -> None:
        """Update the range by the F0 of the next frames (n,) in Hz, 0 where unvoiced."""
        if self.known is None:
            self._octaves.extend(np.log2(f0[f0 > 0]).tolist())

    @property
    def range(self) -> PitchRange | None:
        """Pitch range; None before the first voiced frame. Few frames keep the expected spread."""
        if self.known is not None or not self._octaves:
            return self.known
        low, centre, high = np.percentile(np.fromiter(self._octaves, float), [25, 50, 75])
        n = len(self._octaves)
        spread = n * float(high - low) / IQR_OF_NORMAL + PRIOR_FRAMES * EXPECTED_SPREAD
        return PitchRange(float(centre), spread / (n + PRIOR_FRAMES))
