"""The features of a few recordings: computed and written, each into a file of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from safetensors import SafetensorError

from vc_lightning.audio import pitch
from vc_lightning.audio.files import io
from vc_lightning.common.errors import InputError
from vc_lightning.data.features.files import INT16_SCALE, FeatureFiles, save
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.models.teachers import features_at_frames


@dataclass(frozen=True)
class Recording:
    """A recording to compute features of; its segments without speech are None."""

    content: str
    seconds: float
    wavs: list[np.ndarray | None]  # for the mels
    speeches: list[np.ndarray | None]  # for the speaker encoder


class FeatureWriter:
    """Computes the features of recordings, and writes those that are missing.

    Args:
        files: Names the files.
        needs: The features, and the models that compute them.
        bf16: Whether embeddings are computed in bfloat16, see `SpeakerEncoder.embed_batch`.
    """

    def __init__(self, files: FeatureFiles, needs: FeatureNeeds, bf16: bool):
        self.files = files
        self.needs = needs
        self.mel = needs.mel
        self.bf16 = bf16

    @torch.inference_mode()
    def write(self, recordings: Sequence[Recording]) -> None:
        """Write the feature files of recordings that are missing.

        Raises:
            InputError: The cache cannot be written.
        """
        try:
            for recording in recordings:
                self._write_mels(recording)
                self._write_wav(recording)
                self._write_f0(recording)
                self._write_heard(recording)
                self._write_teacher(recording)
            self._write_voices(recordings)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"data.cache_dir {self.files.root} cannot be written ({error}); free some space or "
                "name another folder, then start again: finished features are kept"
            ) from error

    def _write_voices(self, recordings: Sequence[Recording]) -> None:
        files = self.files
        lacking = {r.content: files.missing("voices", r.content) for r in recordings}
        copies = sorted({copy for missing in lacking.values() for copy in missing})
        recordings = [r for r in recordings if lacking[r.content]]
        speeches = [speech for r in recordings for speech in r.speeches if speech is not None]
        if not speeches:
            return
        factors = [files.factors[copy] for copy in copies]
        # (n_segments, n_copies, embedding_size)
        voices = iter(self.needs.speaker_encoder.embed_batch(speeches, factors, self.bf16))
        for recording in recordings:
            embeddings = [None if s is None else next(voices) for s in recording.speeches]
            absent = np.full_like(next(e for e in embeddings if e is not None), np.nan)
            stacked = np.stack([absent if e is None else e for e in embeddings])
            for index, copy in enumerate(copies):
                save(
                    files.path("voices", recording.content, copy), {"embeddings": stacked[:, index]}
                )

    def _write_mels(self, recording: Recording) -> None:
        copies = self.files.missing("mels", recording.content)
        if not copies:
            return
        filters = torch.stack([self.mel.vtlp_filters(self.files.factors[copy]) for copy in copies])
        empty = torch.zeros(len(copies), self.mel.n_mels, 0)
        mels = [
            empty if wav is None else self.mel(torch.from_numpy(wav), filters)
            for wav in recording.wavs
        ]
        stops = np.cumsum([mel.shape[-1] for mel in mels])
        spans = np.stack([np.concatenate([[0], stops[:-1]]), stops], axis=1)
        whole = torch.cat(mels, dim=-1).half().transpose(1, 2).numpy()  # (n_copies, T, n_mels)
        for copy, mel in zip(copies, whole, strict=True):
            save(self.files.path("mels", recording.content, copy), {"mel": mel, "spans": spans})

    def _write_wav(self, recording: Recording) -> None:
        if not self.files.missing("wavs", recording.content):
            return
        hop = self.mel.hop_length
        # A mel has one frame more than the waveform has whole hops.
        wavs = [np.pad(wav, (0, hop - len(wav) % hop)) for wav in recording.wavs if wav is not None]
        samples = (np.concatenate(wavs).clip(-1, 1) * INT16_SCALE).round().astype(np.int16)
        save(self.files.path("wavs", recording.content), {"wav": samples})

    def _write_f0(self, recording: Recording) -> None:
        if not self.files.missing("pitches", recording.content):
            return
        wavs = [wav for wav in recording.wavs if wav is not None]
        tracks = [pitch.track(wav, self.mel.sample_rate, self.mel.hop_length) for wav in wavs]
        save(self.files.path("pitches", recording.content), {"f0": np.concatenate(tracks)})

    def _write_heard(self, recording: Recording) -> None:
        recogniser, copies = self.needs.recogniser, self.files.missing("heard", recording.content)
        if recogniser is None or not copies:
            return
        rate, hop_length = self.mel.sample_rate, self.mel.hop_length
        wavs = [wav for wav in recording.wavs if wav is not None]
        sounds = [io.resample(wav, rate, recogniser.sample_rate) for wav in wavs]
        counts = [len(wav) // hop_length + 1 for wav in wavs]
        for copy in copies:
            factor = self.files.factors[copy]
            features = [
                recogniser.hear(sound, n_frames, rate / hop_length, factor)
                for sound, n_frames in zip(sounds, counts, strict=True)
            ]
            whole = np.concatenate(features).astype(np.float16)
            save(self.files.path("heard", recording.content, copy), {"features": whole})

    def _write_teacher(self, recording: Recording) -> None:
        teacher, recogniser = self.needs.teacher, self.needs.recogniser
        if teacher is None or not self.files.missing("teacher", recording.content):
            return
        rate, hop_length = self.mel.sample_rate, self.mel.hop_length
        wavs = [wav for wav in recording.wavs if wav is not None]
        counts = [len(wav) // hop_length + 1 for wav in wavs]
        if recogniser is not None and recogniser.identity == teacher.identity:
            heard = self.files.read_all_heard(recording.content)
            parts = np.split(heard, np.cumsum(counts)[:-1])
            features = [part - part.mean(axis=0) for part in parts]
        else:
            sounds = [io.resample(wav, rate, teacher.sample_rate) for wav in wavs]
            features = [
                features_at_frames(teacher, sound, n_frames, rate / hop_length)
                for sound, n_frames in zip(sounds, counts, strict=True)
            ]
        whole = np.concatenate(features).astype(np.float16)
        save(self.files.path("teacher", recording.content), {"features": whole})
