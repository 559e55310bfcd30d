"""The feature cache: mel and speaker embedding of every recording, computed once."""

import hashlib
import json
import logging
import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from vc_lightning.audio import io as audio
from vc_lightning.audio import pitch
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.audio.quality import Quality, measure
from vc_lightning.common.errors import InputError
from vc_lightning.data.feature_store import (
    INT16_SCALE,
    FeatureFiles,
    Piece,
    read_json,
    save,
    write_json,
)
from vc_lightning.models.speaker_encoder import SpeakerEncoder
from vc_lightning.models.teachers import Teacher, features_at_frames

log = logging.getLogger(__name__)

FORMAT_VERSION = 2  # part of every key: counted up when the contents of files change
RECORDINGS_AT_ONCE = 8  # their speaker embeddings are computed in one batch …
SECONDS_AT_ONCE = 120  # … or fewer: long ones shall not pile up in memory


class FeatureCache:
    """Computes features that `files` reads, each once for all data sets and runs.

    A recording is known by its path, size and modification time; only when one of them is new is
    its content hashed, and only when the content is new are features computed. `paths/` remembers
    the contents of paths, `sounds/` what the recordings are like (see `quality`). Every file is
    written whole, so that any number of processes may prepare the same recordings at once: they
    share the work.

    Args:
        root: folder of the cache.
        mel: makes the mels.
        speaker_encoder: makes the embeddings; `encoder_identity` names its weights.
        warps: factors of the copies with a stretched frequency axis (`mel.mel_filters`): other
            voices with the same words; often none.
        max_seconds: longer recordings are cut at pauses into pieces of at most this length.
        bf16: whether embeddings are computed in bfloat16, see `SpeakerEncoder.embed_batch`.
        keep_wavs: whether the sound is kept as well, as a vocoder needs it.
        with_f0: whether the pitch is found as well, for a network that is told it.
        teacher: whose features are computed as well, for an encoder that it teaches.
    """

    def __init__(
        self,
        root: Path,
        mel: MelSpectrogram,
        speaker_encoder: SpeakerEncoder,
        encoder_identity: str,
        warps: Sequence[float] = (),
        max_seconds: float = 30.0,
        bf16: bool = False,
        keep_wavs: bool = False,
        with_f0: bool = False,
        teacher: Teacher | None = None,
    ):
        self.root = Path(root).expanduser()
        self.mel = mel
        self.speaker_encoder = speaker_encoder
        self.max_seconds = max_seconds
        self.bf16 = bf16
        self.teacher = teacher
        level = mel.settings["level_dbfs"]
        mel_key = _key(mel.settings, max_seconds)
        voice_key = _key(encoder_identity, level, max_seconds, bf16)
        hop_length = mel.hop_length if keep_wavs else None
        pitch_key = _key(mel.settings, max_seconds, pitch.tracker_name()) if with_f0 else None
        teacher_key = _key(mel.settings, max_seconds, teacher.identity) if teacher else None
        self.files = FeatureFiles(
            self.root, mel_key, voice_key, warps, hop_length, pitch_key, teacher_key
        )
        self.key = f"{mel_key}-{voice_key}"

    def prepare(
        self, paths: Sequence[Path], num_workers: int, show_progress: bool = True
    ) -> tuple[dict[Path, list[Piece]], dict[Path, str]]:
        """Computes what is missing, in parallel processes, with a progress bar.

        Returns: the pieces of the usable recordings, and why the others are not usable.
        Raises: InputError when the cache cannot be written or a process died.
        """
        found = {path: self.lookup(path) for path in paths}
        missing = [path for path, result in found.items() if result is None]
        if missing:
            self._require_writable()
            log.info("computing features of %d of %d recordings", len(missing), len(paths))
            reasons = self._compute_all(missing, num_workers, show_progress)
            for path in missing:
                found[path] = reasons[path] or self.lookup(path) or "its features have vanished"
        pieces = {path: result for path, result in found.items() if isinstance(result, list)}
        return pieces, {path: str(found[path]) for path in found.keys() - pieces.keys()}

    def lookup(self, path: Path) -> list[Piece] | str | None:
        """Pieces of a recording, or why there are none; None while nothing is known of it."""
        try:
            content = self._known_content(path)
        except OSError as error:
            return f"cannot be opened ({error.strerror})"
        if content is None:
            return None
        return self.files.pieces(content) or self._sound(content).get("unusable", {}).get(self.key)

    def quality(self, piece: Piece) -> Quality | None:
        """What the recording of a piece is like, as far as it is known."""
        sound = self._sound(piece.content)
        return Quality(**sound["quality"]) if "quality" in sound else None

    def compute(self, paths: Sequence[Path]) -> dict[Path, str]:
        """Computes what the cache lacks of recordings; returns why each is unusable, or ""."""
        reasons = dict.fromkeys(paths, "")
        waiting = []
        for path in paths:
            try:
                content = self.remember(path)
                if self.files.pieces(content) is None:  # else another process was faster
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
        """Reads a recording and brings its pieces to the right level, for `_write_features`.

        Raises: InputError when it is unusable, which is then remembered.
        """
        wav, sample_rate = self._load(path)
        wavs, speeches = [], []
        reason = ""
        for start, stop in audio.cut_at_pauses(wav, sample_rate, self.max_seconds):
            try:
                leveled = self.mel.leveled(wav[start:stop], sample_rate)
                speech = self.speaker_encoder.mel.prepare(leveled, self.mel.sample_rate)
                prepared = self.mel.filtered(leveled)
            except InputError as error:
                prepared, speech = None, None
                reason = reason or str(error)
            wavs.append(prepared)
            speeches.append(speech)
        sound = self._sound(content)  # known where only other settings are new
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
        """Writes the files that are missing; what only another setting needs anew stays."""
        try:
            for recording in recordings:
                self._write_mels(recording)
                self._write_wav(recording)
                self._write_f0(recording)
                self._write_teacher(recording)
            self._write_voices(recordings)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"data.cache_dir {self.root} cannot be written ({error}); make room or name "
                "another, and start again: what is done is kept"
            ) from error

    def _write_voices(self, recordings: "Sequence[_Recording]") -> None:
        files = self.files
        lacking = {r.content: files.missing(files.voice_file, r.content) for r in recordings}
        copies = sorted({copy for missing in lacking.values() for copy in missing})
        recordings = [r for r in recordings if lacking[r.content]]
        speeches = [speech for r in recordings for speech in r.speeches if speech is not None]
        if not speeches:
            return
        warps = [files.warps[copy] for copy in copies]
        # (n_pieces, n_copies, embedding_size)
        voices = iter(self.speaker_encoder.embed_batch(speeches, warps, self.bf16))
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
        filters = torch.stack([self.mel.warped_filters(self.files.warps[copy]) for copy in copies])
        nothing = torch.zeros(len(copies), self.mel.n_mels, 0)
        mels = [
            nothing if wav is None else self.mel(torch.from_numpy(wav), filters)
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
        # A mel has one frame more than the sound has whole hops.
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
        if not self.files.lacks_teacher(recording.content):
            return
        rate, hop_length = self.mel.sample_rate, self.mel.hop_length
        features = [
            features_at_frames(
                self.teacher,
                audio.resample(wav, rate, self.teacher.sample_rate),
                len(wav) // hop_length + 1,
                rate / hop_length,
            )
            for wav in recording.wavs
            if wav is not None
        ]
        whole = np.concatenate(features).astype(np.float16)
        save(self.files.teacher_file(recording.content), {"features": whole})

    def _load(self, path: Path) -> tuple[np.ndarray, int]:
        """Reads a recording; InputError when it is unusable or being written just now."""
        before = path.stat()
        wav, sample_rate = audio.load(path)
        after = path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise InputError("it changed while it was read; start again when it is finished")
        return wav, sample_rate

    def _compute_all(
        self, paths: list[Path], num_workers: int, show_progress: bool
    ) -> dict[Path, str]:
        # Each process in an order of its own: those that prepare the same folder at once meet
        # at few recordings, and what one has finished the others leave out.
        paths = random.Random(os.urandom(8)).sample(paths, len(paths))
        size = max(1, min(RECORDINGS_AT_ONCE, len(paths) // (4 * max(1, num_workers))))
        chunks = [paths[i : i + size] for i in range(0, len(paths), size)]
        loader = DataLoader(
            _Computation(self, chunks),
            batch_size=None,
            num_workers=min(num_workers, len(chunks)),
            generator=torch.Generator(),  # a training begins the same, whether features are cached
        )
        reasons = {}
        progress = tqdm(
            total=len(paths),
            desc="features",
            unit="file",
            dynamic_ncols=True,
            disable=not show_progress,
        )
        try:
            with progress:
                for of_chunk in loader:
                    reasons |= of_chunk
                    progress.update(len(of_chunk))
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise InputError(
                f"a process that computed features died ({error}); it was killed or ran out of "
                "memory: lower data.num_workers and start again, what is done is kept"
            ) from error
        return reasons

    # What is known of paths and contents

    def remember(self, path: Path) -> str:
        """Hash of a recording's bytes, remembered with its size and modification time."""
        known = self._known_content(path)
        if known is not None:
            return known
        stat = audio.require_file(path).stat()
        with path.open("rb") as file:
            content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
        remembered = {
            "path": str(path.resolve()),
            "size": stat.st_size,
            "mtime_ns": stat.st_mtime_ns,
            "content": content.hexdigest(),
        }
        write_json(self._path_file(path), remembered)
        return remembered["content"]

    def _known_content(self, path: Path) -> str | None:
        stat = path.stat()
        known = read_json(self._path_file(path))
        unchanged = (known.get("size"), known.get("mtime_ns")) == (stat.st_size, stat.st_mtime_ns)
        return known["content"] if unchanged else None

    def _path_file(self, path: Path) -> Path:
        name = _key(os.fsdecode(os.path.realpath(path)))
        return self.root / "paths" / name[:2] / f"{name}.json"

    def _sound_file(self, content: str) -> Path:
        return self.root / "sounds" / content[:2] / f"{content}.json"

    def _sound(self, content: str) -> dict:
        return read_json(self._sound_file(content))

    def _require_writable(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise InputError(
                f"data.cache_dir {self.root} cannot be written ({error.strerror}); name another"
            ) from error


@dataclass(frozen=True)
class _Recording:
    """A recording on its way into the cache; of its pieces those without speech are None."""

    content: str
    seconds: float
    wavs: list[np.ndarray | None]  # for `mel`
    speeches: list[np.ndarray | None]  # for the speaker encoder


class _Computation(Dataset):
    """Lets a DataLoader's workers compute features: item i is why recordings are unusable."""

    def __init__(self, cache: FeatureCache, chunks: list[list[Path]]):
        self.cache = cache
        self.chunks = chunks

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, index: int) -> dict[Path, str]:
        return self.cache.compute(self.chunks[index])


def _key(*made_by: object) -> str:
    """Name for what was made by given settings."""
    text = json.dumps([FORMAT_VERSION, *made_by], sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
