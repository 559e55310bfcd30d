"""The features of a few recordings: computed and written, each into a file of its own."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from safetensors import SafetensorError

from vc_lightning.audio.files import io
from vc_lightning.common.errors import InputError
from vc_lightning.data.features.files import ARRAYS, INT16_SCALE, FeatureFiles, save
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.models import pitch_tracker
from vc_lightning.models.recogniser import interpolate
from vc_lightning.models.teachers import features_at_frames

Arrays = dict[str, np.ndarray]  # content of a file


@dataclass(frozen=True)
class PreparedRecording:
    """A recording to compute features of; its segments without speech are None."""

    content: str
    seconds: float
    wavs: list[np.ndarray | None]  # for the mels
    speeches: list[np.ndarray | None]  # for the speaker encoder

    @property
    def spoken(self) -> list[np.ndarray]:
        """The waveforms of the segments with speech."""
        return [wav for wav in self.wavs if wav is not None]


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
    def write(self, recordings: Sequence[PreparedRecording]) -> None:
        """Write the feature files of recordings that are missing.

        Raises:
            InputError: The cache cannot be written.
        """
        computed: dict[str, Callable[[PreparedRecording, list[int]], Iterable[Arrays]]] = {
            "mels": self._mels,
            "wavs": self._wavs,
            "pitches": self._pitches,
            "heard": self._heard,
            "teacher": self._teacher,  # may be made of what is heard
        }
        try:
            for recording in recordings:
                for feature, compute in computed.items():
                    if copies := self.files.missing(feature, recording.content):
                        for copy, arrays in zip(copies, compute(recording, copies), strict=True):
                            save(self.files.path(feature, recording.content, copy), arrays)
            self._write_voices(recordings)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"data.cache_dir {self.files.root} cannot be written ({error}); free some space or "
                "name another folder, then start again: finished features are kept"
            ) from error

    def _write_voices(self, recordings: Sequence[PreparedRecording]) -> None:
        """Write the speaker embeddings, which are computed for many segments at once."""
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
                path = files.path("voices", recording.content, copy)
                save(path, {ARRAYS["voices"]: stacked[:, index]})

    # The content of one recording's files of a feature, a file for each copy in `copies`

    def _mels(self, recording: PreparedRecording, copies: list[int]) -> Iterable[Arrays]:
        filters = torch.stack([self.mel.vtlp_filters(self.files.factors[copy]) for copy in copies])
        empty = torch.zeros(len(copies), self.mel.n_mels, 0)
        mels = [
            empty if wav is None else self.mel(torch.from_numpy(wav), filters)
            for wav in recording.wavs
        ]
        stops = np.cumsum([mel.shape[-1] for mel in mels])
        spans = np.stack([np.concatenate([[0], stops[:-1]]), stops], axis=1)
        whole = torch.cat(mels, dim=-1).half().transpose(1, 2).numpy()  # (n_copies, T, n_mels)
        return [{ARRAYS["mels"]: mel, "spans": spans} for mel in whole]

    def _wavs(self, recording: PreparedRecording, _: list[int]) -> Iterable[Arrays]:
        hop = self.mel.hop_length
        # A mel has one frame more than the waveform has whole hops.
        wavs = [np.pad(wav, (0, hop - len(wav) % hop)) for wav in recording.spoken]
        samples = (np.concatenate(wavs).clip(-1, 1) * INT16_SCALE).round().astype(np.int16)
        return [{ARRAYS["wavs"]: samples}]

    def _pitches(self, recording: PreparedRecording, _: list[int]) -> Iterable[Arrays]:
        rate, hop = self.mel.sample_rate, self.mel.hop_length
        tracks = [pitch_tracker.track(wav, rate, hop) for wav in recording.spoken]
        return [{ARRAYS["pitches"]: np.concatenate(tracks)}]

    def _heard(self, recording: PreparedRecording, copies: list[int]) -> Iterable[Arrays]:
        recogniser = self.needs.recogniser
        assert recogniser is not None  # else its features are not missing
        sounds = self._sounds(recording, recogniser.sample_rate)
        factors = [self.files.factors[copy] for copy in copies]
        frame_rate = self.mel.sample_rate / self.mel.hop_length
        features = [
            interpolate(
                recogniser.features_of_copies(sound, factors), recogniser.frame_rate, n, frame_rate
            )
            for sound, n in sounds
        ]
        whole = np.concatenate(features, axis=1).astype(np.float16)  # (n_copies, T, dim)
        return [{ARRAYS["heard"]: heard} for heard in whole]

    def _teacher(self, recording: PreparedRecording, _: list[int]) -> Iterable[Arrays]:
        teacher, recogniser = self.needs.teacher, self.needs.recogniser
        assert teacher is not None  # else its features are not missing
        if recogniser is not None and recogniser.identity == teacher.identity:
            heard = self.files.read_whole("heard", recording.content).numpy()
            stops = np.cumsum([self._n_frames(wav) for wav in recording.spoken])
            features = [part - part.mean(axis=0) for part in np.split(heard, stops[:-1])]
        else:
            frame_rate = self.mel.sample_rate / self.mel.hop_length
            features = [
                features_at_frames(teacher, sound, n, frame_rate)
                for sound, n in self._sounds(recording, teacher.sample_rate)
            ]
        return [{ARRAYS["teacher"]: np.concatenate(features).astype(np.float16)}]

    def _sounds(self, recording: PreparedRecording, rate: int) -> list[tuple[np.ndarray, int]]:
        """Resample the segments with speech, for a recogniser; each with its number of frames."""
        own = self.mel.sample_rate
        return [(io.resample(wav, own, rate), self._n_frames(wav)) for wav in recording.spoken]

    def _n_frames(self, wav: np.ndarray) -> int:
        return len(wav) // self.mel.hop_length + 1
