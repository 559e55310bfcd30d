"""The feature cache: mels, speaker embeddings, pitch and more, computed once per recording."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from vc_lightning.audio import containers, io, pitch, voice_activity
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.audio.quality import Quality, measure
from vc_lightning.common.errors import InputError, require_within
from vc_lightning.common.files import expand_user, require_file, require_writable, write_json
from vc_lightning.data.feature_store import (
    INT16_SCALE,
    FeatureFiles,
    Segment,
    read_json_or_empty,
    save,
)
from vc_lightning.data.parallel import compute_all
from vc_lightning.models.recogniser import Recogniser
from vc_lightning.models.speaker_encoder import SpeakerEncoder
from vc_lightning.models.teachers import Teacher, features_at_frames

log = logging.getLogger(__name__)

FORMAT_VERSION = 2  # part of every key; raise it when the same settings give other features
SECONDS_AT_ONCE = 120  # of recordings held before their features are written, to bound memory


class FeatureCache:
    """Computes the features that `files` reads, once for all data sets and runs.

    A recording is hashed only when its path, size or modification time is new, and its features
    are computed only when the hash is new. `paths/` holds the hash of each path; `sounds/` holds,
    for each hash, the sound quality and why the recording is unusable. Every file is written whole,
    so any number of processes may prepare the same recordings at once; they share the work.

    Args:
        root: Folder of the cache.
        mel: Makes the mels.
        speaker_encoder: Makes the embeddings.
        encoder_identity: Name of the speaker encoder's weights.
        vtlp_factors: Factors of the VTLP copies, see `mel.mel_filters`.
        max_seconds: Longer recordings are cut at pauses into segments of at most this length.
        bf16: Whether embeddings are computed in bfloat16, see `SpeakerEncoder.embed_batch`.
        keep_wavs: Whether waveforms are kept as well, as a vocoder needs them.
        with_f0: Whether the pitch is computed as well.
        teacher: Speech recogniser whose features are computed as well, or None.
        recogniser: Recogniser whose features of every copy are computed as well, for a network
            that listens; None for one that reads mels.
    """

    def __init__(
        self,
        root: Path | str,
        mel: MelSpectrogram,
        speaker_encoder: SpeakerEncoder,
        encoder_identity: str,
        vtlp_factors: Sequence[float] = (),
        max_seconds: float = 30.0,
        bf16: bool = False,
        keep_wavs: bool = False,
        with_f0: bool = False,
        teacher: Teacher | None = None,
        recogniser: Recogniser | None = None,
    ):
        require_within(2, 3600, "data", max_seconds=max_seconds)
        self.root = expand_user(root)
        self.mel = mel
        self.speaker_encoder = speaker_encoder
        self.max_seconds = max_seconds
        self.bf16 = bf16
        self.teacher = teacher
        self.recogniser = recogniser
        level = mel.settings["level_dbfs"]
        mel_key = _key(mel.settings, max_seconds)
        voice_key = _key(encoder_identity, level, max_seconds, bf16)
        pitch_key = _key(mel.settings, max_seconds, pitch.tracker_name()) if with_f0 else None
        teacher_key = _key(mel.settings, max_seconds, teacher.identity) if teacher else None
        heard_key = _key(mel.settings, max_seconds, recogniser.identity) if recogniser else None
        self.files = FeatureFiles(
            self.root,
            mel_key,
            voice_key,
            vtlp_factors,
            mel.hop_length,
            keep_wavs,
            pitch_key,
            teacher_key,
            heard_key,
        )
        self.key = f"{mel_key}-{voice_key}"

    def prepare(
        self, paths: Sequence[Path], num_workers: int, show_progress: bool = True
    ) -> tuple[dict[Path, list[Segment]], dict[Path, str]]:
        """Compute the missing features in parallel processes, with a progress bar.

        Args:
            paths: The recordings.
            num_workers: Number of processes; 0 computes in this one.
            show_progress: Whether to show the progress bar.

        Returns:
            The usable recordings with their segments, and the others with the reason why not.

        Raises:
            InputError: The cache cannot be written, or a process died.
        """
        found = {path: self.lookup(path) for path in paths}
        missing = [path for path, result in found.items() if result is None]
        if missing:
            require_writable(self.root, "data.cache_dir")
            log.info("computing features of %d of %d recordings", len(missing), len(paths))
            reasons = compute_all(self, missing, num_workers, show_progress)
            for path in missing:
                found[path] = reasons[path] or self.lookup(path) or "its features are missing"
        segments = {path: result for path, result in found.items() if isinstance(result, list)}
        return segments, {path: str(found[path]) for path in found.keys() - segments.keys()}

    def lookup(self, path: Path) -> list[Segment] | str | None:
        """Look up a recording without reading it.

        Returns:
            Its segments, or the reason why it is unusable; None if its features are missing.
        """
        try:
            content = self._known_content(path)
        except OSError as error:
            return f"cannot be opened ({error.strerror})"
        if content is None:
            return None
        return self.files.segments(content) or self._sound(content).get("unusable", {}).get(
            self.key
        )

    def quality(self, segment: Segment) -> Quality | None:
        """Read the quality of a segment's recording; None where it was not measured."""
        sound = self._sound(segment.content)
        return Quality(**sound["quality"]) if "quality" in sound else None

    def compute(self, paths: Sequence[Path]) -> dict[Path, str]:
        """Compute the missing features of recordings.

        Returns:
            Why each recording is unusable; "" for a usable one.

        Raises:
            InputError: The cache cannot be written.
        """
        reasons = dict.fromkeys(paths, "")
        waiting = []
        for path in paths:
            try:
                content = self.remember(path)
                if self.files.segments(content) is None:  # else another process computed them
                    waiting.append(self._prepare(path, content))
            except InputError as error:
                reasons[path] = str(error).removeprefix(f"{path}: ")
            except OSError as error:
                reasons[path] = f"cannot be opened ({error.strerror})"
            if sum(recording.seconds for recording in waiting) > SECONDS_AT_ONCE:
                self._write_features(waiting)
                waiting = []
        self._write_features(waiting)
        return reasons

    def _prepare(self, path: Path, content: str) -> "_Recording":
        """Read a recording and bring its segments to one level, for `_write_features`.

        Raises:
            InputError: The recording is unusable; the reason is stored in the cache.
        """
        wav, sample_rate = self._load(path)
        wavs, speeches = [], []
        reason = ""
        for start, stop in voice_activity.cut_at_pauses(wav, sample_rate, self.max_seconds):
            try:
                leveled = self.mel.leveled(wav[start:stop], sample_rate)
                speech = self.speaker_encoder.mel.prepare(leveled, self.mel.sample_rate)
                prepared = self.mel.filtered(leveled)
            except InputError as error:
                prepared, speech = None, None
                reason = reason or str(error)
            wavs.append(prepared)
            speeches.append(speech)
        sound = self._sound(content)  # not empty if only the settings are new
        if "quality" not in sound:
            sound["quality"] = asdict(measure(wav, sample_rate))
        unusable = all(wav is None for wav in wavs)
        if unusable:
            sound["unusable"] = sound.get("unusable", {}) | {self.key: reason}
        write_json(self._sound_file(content), sound)
        if unusable:
            raise InputError(reason)
        return _Recording(content, len(wav) / sample_rate, wavs, speeches)

    @torch.inference_mode()
    def _write_features(self, recordings: "Sequence[_Recording]") -> None:
        """Write the feature files that are missing."""
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
                f"data.cache_dir {self.root} cannot be written ({error}); free some space or name "
                "another folder, then start again: finished features are kept"
            ) from error

    def _write_voices(self, recordings: "Sequence[_Recording]") -> None:
        files = self.files
        lacking = {r.content: files.missing(files.voice_file, r.content) for r in recordings}
        copies = sorted({copy for missing in lacking.values() for copy in missing})
        recordings = [r for r in recordings if lacking[r.content]]
        speeches = [speech for r in recordings for speech in r.speeches if speech is not None]
        if not speeches:
            return
        factors = [files.factors[copy] for copy in copies]
        # (n_segments, n_copies, embedding_size)
        voices = iter(self.speaker_encoder.embed_batch(speeches, factors, self.bf16))
        for recording in recordings:
            embeddings = [None if s is None else next(voices) for s in recording.speeches]
            absent = np.full_like(next(e for e in embeddings if e is not None), np.nan)
            stacked = np.stack([absent if e is None else e for e in embeddings])
            for index, copy in enumerate(copies):
                save(files.voice_file(recording.content, copy), {"embeddings": stacked[:, index]})

    def _write_mels(self, recording: "_Recording") -> None:
        copies = self.files.missing(self.files.mel_file, recording.content)
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
            save(self.files.mel_file(recording.content, copy), {"mel": mel, "spans": spans})

    def _write_wav(self, recording: "_Recording") -> None:
        if not self.files.lacks_wav(recording.content):
            return
        hop = self.mel.hop_length
        # A mel has one frame more than the waveform has whole hops.
        wavs = [np.pad(wav, (0, hop - len(wav) % hop)) for wav in recording.wavs if wav is not None]
        samples = (np.concatenate(wavs).clip(-1, 1) * INT16_SCALE).round().astype(np.int16)
        save(self.files.wav_file(recording.content), {"wav": samples})

    def _write_f0(self, recording: "_Recording") -> None:
        if not self.files.lacks_f0(recording.content):
            return
        wavs = [wav for wav in recording.wavs if wav is not None]
        tracks = [pitch.track(wav, self.mel.sample_rate, self.mel.hop_length) for wav in wavs]
        save(self.files.pitch_file(recording.content), {"f0": np.concatenate(tracks)})

    def _write_teacher(self, recording: "_Recording") -> None:
        if self.teacher is None or not self.files.lacks_teacher(recording.content):
            return
        rate, hop_length = self.mel.sample_rate, self.mel.hop_length
        wavs = [wav for wav in recording.wavs if wav is not None]
        if self.recogniser is not None and self.recogniser.identity == self.teacher.identity:
            stops = np.cumsum([len(wav) // hop_length + 1 for wav in wavs])
            heard = np.split(self.files.read_all_heard(recording.content), stops[:-1])
            features = [segment - segment.mean(axis=0) for segment in heard]
        else:
            features = [
                features_at_frames(
                    self.teacher,
                    io.resample(wav, rate, self.teacher.sample_rate),
                    len(wav) // hop_length + 1,
                    rate / hop_length,
                )
                for wav in wavs
            ]
        whole = np.concatenate(features).astype(np.float16)
        save(self.files.teacher_file(recording.content), {"features": whole})

    def _write_heard(self, recording: "_Recording") -> None:
        if self.recogniser is None:
            return
        rate, hop_length = self.mel.sample_rate, self.mel.hop_length
        copies = self.files.missing(self.files.heard_file, recording.content)
        wavs = [wav for wav in recording.wavs if wav is not None and copies]
        sounds = [io.resample(wav, rate, self.recogniser.sample_rate) for wav in wavs]
        counts = [len(wav) // hop_length + 1 for wav in wavs]
        for copy in copies:
            factor = self.files.factors[copy]
            features = [
                self.recogniser.hear(sound, n_frames, rate / hop_length, factor)
                for sound, n_frames in zip(sounds, counts, strict=True)
            ]
            whole = np.concatenate(features).astype(np.float16)
            save(self.files.heard_file(recording.content, copy), {"features": whole})

    def _load(self, path: Path) -> tuple[np.ndarray, int]:
        """Read a recording; InputError when it is unusable or still being written."""
        before = io.stamp(path)
        wav, sample_rate = io.load(path)
        if io.stamp(path) != before:
            raise InputError("it changed while it was read; start again when it is complete")
        return wav, sample_rate

    # Hashes and qualities

    def remember(self, path: Path) -> str:
        """Return the hash of a recording, read from `paths/` or computed and stored there.

        Raises:
            InputError: There is no such file.
        """
        known = self._known_content(path)
        if known is not None:
            return known
        recording, stream = io.split_address(path)
        if not containers.is_on_hub(recording):
            require_file(recording)
        size, mtime_ns = io.stamp(path)
        with containers.extracted(path, recording) as extracted, extracted.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
        if stream is not None:  # each stream of a film has features of its own
            digest.update(f"?stream={stream}".encode())
        content = digest.hexdigest()
        remembered = {
            "path": _name(path),
            "size": size,
            "mtime_ns": mtime_ns,
            "content": content,
        }
        write_json(self._path_file(path), remembered)
        return content

    def _known_content(self, path: Path) -> str | None:
        stamp = io.stamp(path)
        known = read_json_or_empty(self._path_file(path))
        return known["content"] if (known.get("size"), known.get("mtime_ns")) == stamp else None

    def _path_file(self, path: Path) -> Path:
        name = _key(_name(path))
        return self.root / "paths" / name[:2] / f"{name}.json"

    def _sound_file(self, content: str) -> Path:
        return self.root / "sounds" / content[:2] / f"{content}.json"

    def _sound(self, content: str) -> dict:
        return read_json_or_empty(self._sound_file(content))


@dataclass(frozen=True)
class _Recording:
    """A recording to compute features of; its segments without speech are None."""

    content: str
    seconds: float
    wavs: list[np.ndarray | None]  # for `mel`
    speeches: list[np.ndarray | None]  # for the speaker encoder


def _name(path: Path) -> str:
    """Return the name of a recording that is the same in every folder: an absolute path."""
    on_hub = containers.is_on_hub(path)
    return containers.with_two_slashes(path) if on_hub else os.fsdecode(os.path.realpath(path))


def _key(*made_by: object) -> str:
    """Hash settings to a name for the files that they make."""
    text = json.dumps([FORMAT_VERSION, *made_by], sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
