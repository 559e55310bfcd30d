"""Analysis of recordings before a conversion: level, speaker embedding, pitch and content."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vc_lightning.audio import voice_activity
from vc_lightning.audio.checks.pitch_check import PitchCheck
from vc_lightning.audio.files import io
from vc_lightning.audio.spill_buffer import SpillBuffer
from vc_lightning.audio.voice_activity import Level
from vc_lightning.common.errors import InputError
from vc_lightning.common.progress import Progress, no_progress
from vc_lightning.common.threads import second_thread
from vc_lightning.conversion.networks import Networks
from vc_lightning.conversion.recording import (
    FADE_SECONDS,
    Chunk,
    Recording,
    RecordingLike,
    cross_fade,
    prefix_errors,
    split_into_chunks,
    whole_codes,
)
from vc_lightning.conversion.voices.voice import VoiceSample
from vc_lightning.models import pitch_tracker

CHUNK_SECONDS = 60  # processed at once
CONTEXT_SECONDS = 4  # on each side of a chunk, processed with it and then dropped
REFERENCE_SECONDS = 30  # of a target's speech, which conversions attend to
END_SECONDS = 10  # of a speaker's speech, which a stream may remember


class RecordingAnalyzer:
    """Analyzer of recordings of any length, which works in chunks.

    Args:
        networks: The networks of the conversions.
    """

    def __init__(self, networks: Networks):
        self.networks = networks
        self.mel = networks.mel
        self.pitch_check = PitchCheck()

    def load(self, recording: RecordingLike) -> np.ndarray:
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

    @torch.inference_mode()
    def analyze(
        self,
        recording: RecordingLike,
        progress: Progress = no_progress,
        name: Path | str | None = None,
        embeds: bool = False,
    ) -> Recording:
        """Analyze a recording for conversions.

        Args:
            recording: See `load`.
            progress: Called with the share of the pitch tracking that is done, up to 1.
            name: Name of the recording in the warning that hardly any pitch was found.
            embeds: Whether the speaker embedding is computed at once, and not when it is first
                asked for. A network that reads mels always needs it.

        Raises:
            InputError: The recording cannot be used; the message names it.
        """
        wav, level = self.leveled(recording)
        chunks = self.chunks(wav)
        contours, content = [], SpillBuffer()
        embed: Callable = functools.partial(self._embedding, recording, wav, level)
        embeds = embeds or not self.networks.autovc.listens
        with second_thread(self.networks.hears_fast) as beside:
            if embeds:
                embed = beside.submit(embed).result
            for chunk in chunks:
                filtered = self._filtered(wav, level, chunk)
                contours.append(beside.submit(self._f0, filtered, chunk))
                content.append(self._content(filtered, chunk))
                progress(chunk.stop / chunks[-1].stop)
        if embeds:
            embed()  # or its error
        f0 = np.concatenate([contour.result() for contour in contours])
        self._check_pitch(recording if name is None else name, f0, level)
        seconds = len(wav) / self.mel.sample_rate
        return Recording(wav, level, embed, f0, seconds, chunks, content.array())

    @torch.inference_mode()
    def sample(self, recording: RecordingLike, name: Path | str | None = None) -> VoiceSample:
        """Analyze a recording of a target's voice, whose sound is not kept; see `analyze`."""
        wav, level = self.leveled(recording)
        attends = self.networks.autovc.has_reference
        with second_thread(self.networks.hears_fast) as beside:
            embedding = beside.submit(self._embedding, recording, wav, level)
            if attends:
                start = self._start(wav)
                filtered = self._filtered(wav, level, start)
                contour = beside.submit(self._contour, wav, level, {start: filtered})
                heard = self._content(filtered, start)
            f0 = contour.result() if attends else self._contour(wav, level, {})
        voice = embedding.result()
        self._check_pitch(recording if name is None else name, f0, level)
        reference = self._reference(filtered, start, voice, heard) if attends else None
        return VoiceSample(voice, f0, level.speech, len(wav) / self.mel.sample_rate, reference)

    @torch.inference_mode()
    def sample_of(self, recording: Recording) -> VoiceSample:
        """Return what an analyzed recording contributes to a voice."""
        one, reference = recording, None
        if self.networks.autovc.has_reference:
            start = self._start(one.wav)
            filtered = self._filtered(one.wav, one.level, start)
            reference = self._reference(filtered, start, one.embedding, one.content)
        return VoiceSample(one.embedding, one.f0, one.level.speech, one.seconds, reference)

    def _start(self, wav: np.ndarray) -> Chunk:
        """Return the first `REFERENCE_SECONDS` of wav (n,) as a chunk."""
        n_frames = min(self.n_frames(wav), self.frames(REFERENCE_SECONDS))
        return Chunk(0, 0, n_frames, n_frames)

    def _reference(
        self, filtered: np.ndarray, start: Chunk, embedding: np.ndarray, heard: np.ndarray
    ) -> np.ndarray:
        """Make the reference (R, D) of the start of a recording, see `AutoVC.remember`.

        The frames are shuffled, so that nobody can hear what was said.

        Args:
            filtered: Its samples (m,), see `_filtered`.
            start: Its frames.
            embedding: Embedding of the speaker.
            heard: (at least R, C), what the content encoder reads of the recording's first frames.
        """
        device = self.networks.device
        mel = self._mel(filtered, start)
        content = torch.from_numpy(heard[: mel.shape[-1]]).t()[None].to(device)
        speaker = torch.from_numpy(embedding)[None].to(device)
        found = self.networks.autovc.remember(content, speaker, mel.to(device))
        frames = found[0].t().float().cpu().numpy()
        return np.random.default_rng(0).permutation(frames)

    def embed(self, recording: RecordingLike) -> np.ndarray:
        """Compute the speaker embedding (dim_emb,) of a recording."""
        return self._embedding(recording, *self.leveled(recording))

    def leveled(self, recording: RecordingLike | Recording) -> tuple[np.ndarray, Level]:
        """Load a recording and measure its level, if it is not analyzed -> wav (n,), its level."""
        if isinstance(recording, Recording):
            return recording.wav, recording.level
        wav = self.load(recording)
        with prefix_errors(recording):
            level = voice_activity.measure_level(wav, self.mel.sample_rate, self.mel.level_dbfs)
        return wav, level

    def end_of_speech(self, recording: RecordingLike | Recording) -> np.ndarray:
        """Return the last seconds of a recording's speech, for a stream of the same speaker.

        Args:
            recording: A result of `analyze`, or what it takes.

        Returns:
            float32 (n,), at most `END_SECONDS`, at the rate and level of the mels, filtered.

        Raises:
            InputError: The recording cannot be used; the message names it.
        """
        wav, level = self.leveled(recording)
        seconds = (np.flatnonzero(level.speech)[-1] + 1) * voice_activity.VAD_WINDOW_MS / 1000
        stop = round(seconds * self.mel.sample_rate)
        first = max(0, stop - round(END_SECONDS * self.mel.sample_rate))
        return self.mel.filtered(voice_activity.amplify(wav[first:stop], level.gain_db))

    def mel_of(self, wav: np.ndarray, level: Level) -> Tensor:
        """Compute the mel (n_mels, T) of wav (n,)."""
        parts = (
            (chunk, self._mel(self._filtered(wav, level, chunk), chunk)[0])
            for chunk in self.chunks(wav)
        )
        return torch.cat(list(cross_fade(parts, self.frames(FADE_SECONDS))), dim=-1)

    def _embedding(self, recording: RecordingLike, wav: np.ndarray, level: Level) -> np.ndarray:
        """Embed the speaker of a recording, whose samples (n,) and level are known.

        The encoder detects the speech again, at the level of the mels: the windows that
        `measure_level` finds at −30 dBFS differ in 49 of 58 recordings (cosine down to 0.987).
        """
        with prefix_errors(recording):
            return self.networks.speaker_encoder.embed_recording(
                wav, self.mel.sample_rate, self.mel.level_dbfs, level.gain_db
            )

    def _filtered(self, wav: np.ndarray, level: Level, chunk: Chunk) -> np.ndarray:
        """Return the samples (m,) of a chunk at the level of the mels, filtered."""
        hop = self.mel.hop_length
        is_last = chunk.last == self.n_frames(wav)
        wav = wav[chunk.first * hop : None if is_last else chunk.last * hop]
        return self.mel.filtered(voice_activity.amplify(wav, level.gain_db))

    def _mel(self, filtered: np.ndarray, chunk: Chunk) -> Tensor:
        """Compute the mel (1, n_mels, last − first) of a chunk's samples (m,)."""
        mel = self.mel(torch.from_numpy(filtered).to(self.mel.window.device)[None])
        return mel[..., : chunk.last - chunk.first]

    def _content(self, filtered: np.ndarray, chunk: Chunk) -> np.ndarray:
        """Compute what the content encoder reads of a chunk (last − first, C): mel or features."""
        if self.networks.recogniser is None:
            return self._mel(filtered, chunk)[0].t().cpu().numpy()
        return self.networks.heard(filtered, chunk.last - chunk.first)

    def _f0(self, filtered: np.ndarray, chunk: Chunk) -> np.ndarray:
        """Track the pitch (stop − start,) of the frames that a chunk keeps."""
        f0 = pitch_tracker.track(filtered, self.mel.sample_rate, self.mel.hop_length)
        return f0[chunk.start - chunk.first : chunk.stop - chunk.first]

    def _contour(
        self, wav: np.ndarray, level: Level, filtered: Mapping[Chunk, np.ndarray]
    ) -> np.ndarray:
        """Track the pitch (T,) of wav (n,), some chunks of which may be filtered already."""
        contours = []
        for chunk in self.chunks(wav):
            samples = filtered.get(chunk)
            if samples is None:
                samples = self._filtered(wav, level, chunk)
            contours.append(self._f0(samples, chunk))
        return np.concatenate(contours)

    def _check_pitch(self, name: RecordingLike, f0: np.ndarray, level: Level) -> None:
        """Warn if a named recording has speech but hardly any pitch, which the network needs."""
        if self.networks.autovc.f0 and not isinstance(name, np.ndarray):
            self.pitch_check(name, f0, level.speech, self.mel.sample_rate, self.mel.hop_length)

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
        return whole_codes(seconds, self.mel, self.networks.autovc.freq)
