"""Analysis of recordings before a conversion: level, speaker embedding, pitch and mel."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vc_lightning.audio import io, pitch, voice_activity
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.audio.pitch_check import PitchCheck
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.chunking import Chunk, cross_fade, split_into_chunks
from vc_lightning.conversion.recordings import AnalyzedRecording, Recording, prefix_errors
from vc_lightning.models.speaker_encoder import SpeakerEncoder
from vc_lightning.models.vocoders.base import Progress, no_progress

CHUNK_SECONDS = 60  # processed at once
CONTEXT_SECONDS = 4  # on each side of a chunk, processed with it and then dropped
FADE_SECONDS = 0.25  # cross-fade from one chunk's mel to the next one's


class RecordingAnalyzer:
    """Analyzer of recordings of any length, which works in chunks.

    Args:
        mel: Mel-spectrogram of the conversion network.
        speaker_encoder: Speaker encoder.
        freq: Frames per code of the network; chunks begin at whole codes.
        with_f0: Whether the network has F0 inputs; then the pitch is tracked and checked.
    """

    def __init__(
        self, mel: MelSpectrogram, speaker_encoder: SpeakerEncoder, freq: int, with_f0: bool
    ):
        self.mel = mel
        self.speaker_encoder = speaker_encoder
        self.freq = freq
        self.with_f0 = with_f0
        self.pitch_check = PitchCheck()

    def load(self, recording: Recording) -> np.ndarray:
        """Load and check a recording.

        Args:
            recording: A path, or float samples (n,) at the sample rate of the mels.

        Returns:
            Samples, float32 (n,) at the sample rate of the mels.

        Raises:
            InputError: The recording cannot be used.
        """
        if isinstance(recording, np.ndarray):
            return io.check(recording)
        if not isinstance(recording, Path | str):
            kind = type(recording).__name__
            raise InputError(f"a recording is a {kind}; give a path or a NumPy array of floats")
        wav, sample_rate = io.load(recording)
        return io.resample(wav, sample_rate, self.mel.sample_rate)

    def embed(self, recording: Recording) -> np.ndarray:
        """Compute the speaker embedding (dim_emb,) of a recording."""
        wav = self.load(recording)
        return self._embed(recording, wav, self.gain_db(recording, wav))

    def _embed(self, recording: Recording, wav: np.ndarray, gain_db: float) -> np.ndarray:
        with prefix_errors(recording):
            return self.speaker_encoder.embed_recording(
                wav, self.mel.sample_rate, self.mel.level_dbfs, gain_db
            )

    def gain_db(self, recording: Recording, wav: np.ndarray) -> float:
        """Compute the gain in dB that brings wav (n,) to the level of the mels.

        Args:
            recording: The recording of wav, which errors name.
            wav: float32 (n,) at the sample rate of the mels.

        Raises:
            InputError: The recording is too short or holds no speech.
        """
        return self._level(recording, wav).gain_db

    def _level(self, recording: Recording, wav: np.ndarray) -> voice_activity.Level:
        """Detect the speech of wav (n,) and measure its level; errors name `recording`."""
        with prefix_errors(recording):
            return voice_activity.measure_level(wav, self.mel.sample_rate, self.mel.level_dbfs)

    @torch.inference_mode()
    def analyze(
        self,
        recording: Recording,
        with_pitch: bool | None = None,
        progress: Progress = no_progress,
        name: Path | str | None = None,
    ) -> AnalyzedRecording:
        """Analyze a recording; see `VoiceConverter.analyze`."""
        wav = self.load(recording)
        level = self._level(recording, wav)
        gain_db = level.gain_db
        analyzed = AnalyzedRecording(wav, gain_db, self._embed(recording, wav, gain_db))
        if not (self.with_f0 if with_pitch is None else with_pitch):
            return analyzed
        contours = []
        for chunk in self.chunks(wav):
            filtered = self._filtered(wav, gain_db, chunk)
            f0 = pitch.track(filtered, self.mel.sample_rate, self.mel.hop_length)
            contours.append(f0[chunk.start - chunk.first : chunk.stop - chunk.first])
            progress(chunk.stop / self.n_frames(wav))
        f0 = np.concatenate(contours)
        named = recording if name is None else name
        if self.with_f0 and not isinstance(named, np.ndarray):
            self.pitch_check(named, f0, level.speech, self.mel.sample_rate, self.mel.hop_length)
        return replace(analyzed, f0=f0)

    def chunk_mel(self, wav: np.ndarray, gain_db: float, chunk: Chunk) -> Tensor:
        """Compute the mel (1, n_mels, last − first) of a chunk of wav (n,)."""
        filtered = torch.from_numpy(self._filtered(wav, gain_db, chunk))
        mel = self.mel(filtered.to(self.mel.window.device)[None])
        return mel[..., : chunk.last - chunk.first]

    def mel_of(self, recording: Recording, wav: np.ndarray) -> Tensor:
        """Compute the mel (n_mels, T) of wav (n,); errors name `recording`."""
        gain_db = self.gain_db(recording, wav)
        parts = ((chunk, self.chunk_mel(wav, gain_db, chunk)[0]) for chunk in self.chunks(wav))
        return torch.cat(list(self.joined(parts)), dim=-1)

    def joined(self, parts: Iterable[tuple[Chunk, Tensor]]) -> Iterator[Tensor]:
        """Cross-fade the mels of consecutive chunks, see `cross_fade`."""
        return cross_fade(parts, self.frames(FADE_SECONDS))

    def _filtered(self, wav: np.ndarray, gain_db: float, chunk: Chunk) -> np.ndarray:
        """Return the samples (m,) of a chunk at the level of the mels, filtered."""
        hop = self.mel.hop_length
        is_last = chunk.last == self.n_frames(wav)
        wav = wav[chunk.first * hop : None if is_last else chunk.last * hop]
        return self.mel.filtered(voice_activity.amplify(wav, gain_db))

    def chunks(self, wav: np.ndarray) -> list[Chunk]:
        """Split the frames of wav (n,) into chunks."""
        context = self.frames(CONTEXT_SECONDS)
        return split_into_chunks(self.n_frames(wav), self.chunk_frames, context)

    @property
    def chunk_frames(self) -> int:
        """Frames that a chunk keeps."""
        return self.frames(CHUNK_SECONDS)

    def n_frames(self, wav: np.ndarray) -> int:
        """Count the frames of the mel of wav (n,)."""
        return len(wav) // self.mel.hop_length + 1

    def frames(self, seconds: float) -> int:
        """Convert seconds to frames, rounded up to whole codes."""
        codes = seconds * self.mel.sample_rate / self.mel.hop_length / self.freq
        return self.freq * math.ceil(codes)
