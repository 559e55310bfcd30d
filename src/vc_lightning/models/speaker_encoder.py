"""The speaker encoder: a voice as a vector (GE2E, Wan et al. 2018, arXiv 1710.10467)."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vc_lightning.audio import voice_activity
from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.audio.mel_filters import mel_filters, power_spectra
from vc_lightning.audio.spill_buffer import blocks
from vc_lightning.common.errors import InputError
from vc_lightning.common.resources import settings
from vc_lightning.models.lstm import run_lstm
from vc_lightning.models.network import Network

MAX_PARTIALS_AT_ONCE = 48  # enough for fast matrix products; an hour of speech has 4 700
N_LAYERS = 3
EMBEDDING_SIZE = 256
MIN_COVERAGE = 0.75  # share of the last partial that sound must fill; else it is left out
SECONDS_AT_ONCE = 600  # longer recordings are embedded in parts


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


class SpeakerEncoder(Network):
    """An LSTM over overlapping parts ("partials") of an utterance, whose outputs are averaged.

    Attributes:
        relu: Whether a ReLU keeps embeddings positive.
        partial_frames: Length of a partial in frames.
        partial_hop: Distance between two partials in frames.
        unit_norm: Whether means are scaled to length 1.

    Args:
        mel: Computes the input features; it also normalises loudness and cuts long pauses.
        hidden_size: LSTM cells.
    """

    sample_rate = PowerMel.sample_rate
    relu: ClassVar[bool]
    partial_frames: ClassVar[int]
    partial_hop: ClassVar[int]
    unit_norm: ClassVar[bool]

    def __init__(self, mel: PowerMel | MelSpectrogram, hidden_size: int):
        super().__init__({})
        self.mel = mel
        self.lstm = nn.LSTM(mel.n_mels, hidden_size, N_LAYERS, batch_first=True)
        self.linear = nn.Linear(hidden_size, EMBEDDING_SIZE)

    def forward(self, mel: Tensor) -> Tensor:
        """Embed mel (B, n_mels, partial_frames) -> unit vectors (B, 256)."""
        hidden = run_lstm(self.lstm, mel.transpose(1, 2))[:, -1]  # (B, hidden_size)
        embedding = self.linear(hidden)
        return F.normalize(F.relu(embedding) if self.relu else embedding)

    def embed_utterance(self, wav: np.ndarray) -> np.ndarray:
        """Embed one recording; loudness is normalised and long pauses are cut.

        Args:
            wav: float32 (n,) at 16 kHz.

        Returns:
            float32 (256,), of unit length if `unit_norm`.

        Raises:
            InputError: The recording holds too little speech.
        """
        wav = np.asarray(wav, dtype=np.float32)
        return self.embed_speech(self.mel.prepare(wav, self.sample_rate))

    def embed_speech(self, speech: np.ndarray, factor: float = 1.0) -> np.ndarray:
        """Embed one recording prepared by `mel.prepare`, see `embed_batch`."""
        return self.embed_batch([speech], [factor])[0, 0]

    @torch.inference_mode()
    def embed_batch(
        self, speeches: Sequence[np.ndarray], factors: Sequence[float] = (1.0,), bf16: bool = False
    ) -> np.ndarray:
        """Embed recordings; partials of all of them share batches.

        Args:
            speeches: Recordings prepared by `mel.prepare`.
            factors: VTLP factors, see `mel_filters`.
            bf16: Whether the LSTM computes in bfloat16 where the processor can: four times as
                fast on processors with AMX, cosine to the float32 result above 0.999.

        Returns:
            float32 (len(speeches), len(factors), 256).
        """
        device = self.linear.weight.device
        filters = torch.stack([self.mel.vtlp_filters(factor) for factor in factors]).to(device)
        partials, counts = [], []
        for speech in speeches:
            starts = self._partial_starts(len(speech))
            n_samples = (starts[-1] + self.partial_frames) * self.mel.hop_length
            speech = np.pad(speech, (0, max(0, n_samples - len(speech))))
            mels = self.mel(torch.from_numpy(speech).to(device), filters)  # (n_factors, n_mels, T)
            partials += [mel[:, i : i + self.partial_frames] for mel in mels for i in starts]
            counts += [len(starts)] * len(factors)
        n_batches = -(-len(partials) // MAX_PARTIALS_AT_ONCE)
        size = -(-len(partials) // n_batches)  # batches of one size: a small last one is slow
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            embeddings = [
                self(torch.stack(partials[i : i + size])) for i in range(0, len(partials), size)
            ]
        by_copy = torch.cat(embeddings).float().cpu().split(counts)
        means = np.stack([self.average(vectors.numpy()) for vectors in by_copy])
        return means.reshape(len(speeches), len(factors), -1)

    def embed_recording(
        self,
        wav: np.ndarray,
        sample_rate: int,
        level_dbfs: float,
        gain_db: float | None = None,
    ) -> np.ndarray:
        """Embed a recording of any sample rate and length after bringing it to one level.

        GE2E amplifies quiet recordings only, and its embeddings depend on loudness: without a
        common level, the same recording at a twentieth of its amplitude gives a cosine of 0.93.
        A long recording's embedding is the mean over its parts.

        Args:
            wav: float32 (n,).
            sample_rate: Rate of wav in Hz.
            level_dbfs: Level of the speech, in dB relative to full scale.
            gain_db: Gain in dB for that level; None: measured, see `voice_activity.measure_level`.

        Returns:
            float32 (256,).

        Raises:
            InputError: The recording holds too little speech.
        """
        wav = io.resample(wav, sample_rate, self.sample_rate)
        if gain_db is None:
            gain_db = voice_activity.measure_level(wav, self.sample_rate, level_dbfs).gain_db
        embeddings, reasons = [], []
        for piece in blocks(wav, self.sample_rate * SECONDS_AT_ONCE):
            try:
                speech = self.mel.prepare(voice_activity.amplify(piece, gain_db), self.sample_rate)
                embeddings.append(self.embed_speech(speech))
            except InputError as error:  # a part that is silent, or too short
                reasons.append(error)
        if not embeddings:
            raise reasons[0]
        return self.average(embeddings) if len(embeddings) > 1 else embeddings[0]

    def average(self, embeddings: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
        """Average embeddings of one speaker -> (256,)."""
        mean = np.mean(embeddings, axis=0)
        return mean / np.linalg.norm(mean) if self.unit_norm else mean

    def _partial_starts(self, n_samples: int) -> list[int]:
        """List the first frames of all partials; a last one that is mostly padding is left out."""
        n_frames = -(-(n_samples + 1) // self.mel.hop_length)
        n_starts = max(1, n_frames - self.partial_frames + self.partial_hop + 1)
        starts = list(range(0, n_starts, self.partial_hop))
        covered = n_samples / self.mel.hop_length - starts[-1]
        if covered < MIN_COVERAGE * self.partial_frames and len(starts) > 1:
            starts.pop()
        return starts


def similarity(embedding: np.ndarray, other: np.ndarray) -> float:
    """Compute the cosine between two embeddings; 1 is the same direction."""
    return float(embedding @ other / (np.linalg.norm(embedding) * np.linalg.norm(other)))


class GE2E(SpeakerEncoder):
    """The network of the published GE2E weights (Resemblyzer 0.1.4)."""

    kind = "ge2e"
    relu = True
    partial_frames = 160  # 1.6 s
    partial_hop = 77  # 1.3 partials per second
    unit_norm = True

    def __init__(self) -> None:
        super().__init__(PowerMel(), hidden_size=256)


class DVector(SpeakerEncoder):
    """The D_VECTOR network of the original AutoVC, for mels of `mel=autovc`.

    Its authors embedded one random crop of 128 frames from each utterance. Here all crops that
    overlap by half are averaged, so that a recording always has the same embedding.
    """

    kind = "d_vector"
    relu = False
    partial_frames = 128
    partial_hop = 64
    unit_norm = False

    def __init__(self) -> None:
        super().__init__(MelSpectrogram(**settings("mel", "autovc")), hidden_size=768)
