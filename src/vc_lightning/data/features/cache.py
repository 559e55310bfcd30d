"""The feature cache: mels, speaker embeddings, pitch and more, computed once per recording."""

import hashlib
import json
import logging
import os
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vc_lightning.audio import voice_activity
from vc_lightning.audio.checks.quality import Quality, measure
from vc_lightning.audio.files import containers, io
from vc_lightning.common.errors import InputError, require_within
from vc_lightning.common.files import expand_user, require_file, require_writable, write_json
from vc_lightning.data.features.files import FeatureFiles, Segment, read_json_or_empty
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.data.features.processes import in_processes
from vc_lightning.data.features.writer import FeatureWriter, PreparedRecording
from vc_lightning.models import pitch_tracker
from vc_lightning.models.recogniser import Recogniser

log = logging.getLogger(__name__)

FORMAT_VERSION = 2  # part of every key; raise it when the same settings give other features
RECORDINGS_AT_ONCE = 8  # in one batch of the speaker encoder
ROWS_AT_ONCE = 100  # of a Parquet file: a row group of public data sets has about as many
SECONDS_AT_ONCE = 120  # of recordings held before their features are written, to bound memory


class FeatureCache:
    """Computes the features that `files` reads, once for all data sets and runs.

    A recording is hashed only when its path, size or modification time is new, and its features
    are computed only when the hash is new. `paths/` holds the hash of each path; `sounds/` holds,
    for each hash, the sound quality and why the recording is unusable. Every file is written whole,
    so any number of processes may prepare the same recordings at once; they share the work.

    Args:
        root: Folder of the cache.
        needs: The features, and the models that compute them.
        vtlp_factors: Factors of the VTLP copies, see `mel_filters`.
        max_seconds: Longer recordings are cut at pauses into segments of at most this length.
        bf16: Whether features are computed in bfloat16, see `SpeakerEncoder.embed_batch` and
            `Recogniser.use_bfloat16`. Such embeddings have files of their own.
        keep_wavs: Whether waveforms are kept as well, as a vocoder needs them.
    """

    def __init__(
        self,
        root: Path | str,
        needs: FeatureNeeds,
        vtlp_factors: Sequence[float] = (),
        max_seconds: float = 30.0,
        bf16: bool = False,
        keep_wavs: bool = False,
    ):
        require_within(2, 3600, "data", max_seconds=max_seconds)
        self.root = expand_user(root)
        self.needs = needs
        self.mel = needs.mel
        self.max_seconds = max_seconds
        mels, level = needs.mel.settings, needs.mel.settings["level_dbfs"]
        keys = {
            "mels": _key(mels, max_seconds),
            "voices": _key(needs.encoder_identity, level, max_seconds, bf16),
        }
        if keep_wavs:
            keys["wavs"] = keys["mels"]
        if needs.f0:
            keys["pitches"] = _key(mels, max_seconds, pitch_tracker.NAME)
        if needs.teacher:
            keys["teacher"] = _key(mels, max_seconds, needs.teacher.identity)
        if needs.recogniser:
            keys["heard"] = _key(mels, max_seconds, needs.recogniser.identity)
        for model in (needs.recogniser, needs.teacher):
            if bf16 and isinstance(model, Recogniser):
                model.use_bfloat16()
        self.key = f"{keys['mels']}-{keys['voices']}"
        self.files = FeatureFiles(self.root, keys, vtlp_factors, needs.mel.hop_length)
        self.writer = FeatureWriter(self.files, needs, bf16)

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
            reasons = self._compute_all(missing, num_workers, show_progress)
            for path in missing:
                found[path] = reasons[path] or self.lookup(path) or "its features are missing"
        segments = {path: result for path, result in found.items() if isinstance(result, list)}
        return segments, {path: str(why) for path, why in found.items() if path not in segments}

    def _compute_all(
        self, paths: list[Path], num_workers: int, show_progress: bool
    ) -> dict[Path, str]:
        """Compute the features of recordings in parallel; see `prepare` and `compute`."""
        batches = _batches(paths, num_workers)
        reasons: dict[Path, str] = {}
        progress = tqdm(
            total=len(paths),
            desc="features",
            unit="file",
            dynamic_ncols=True,
            disable=not show_progress,
        )
        with progress:
            for of_batch in in_processes(self.compute, batches, num_workers):
                reasons |= of_batch
                progress.update(len(of_batch))
        return reasons

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

    def quality(self, content: str) -> Quality | None:
        """Read the quality of a recording by its hash; None where it was not measured."""
        sound = self._sound(content)
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
                self.writer.write(waiting)
                waiting = []
        self.writer.write(waiting)
        return reasons

    def _prepare(self, path: Path, content: str) -> PreparedRecording:
        """Read a recording and bring its segments to one level, for the writer.

        Raises:
            InputError: The recording is unusable; the reason is stored in the cache.
        """
        wav, sample_rate = self._load(path)
        wavs, speeches = [], []
        reason = ""
        for start, stop in voice_activity.cut_at_pauses(wav, sample_rate, self.max_seconds):
            try:
                leveled = self.mel.leveled(wav[start:stop], sample_rate)
                speech = self.needs.speaker_encoder.mel.prepare(leveled, self.mel.sample_rate)
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
        return PreparedRecording(content, len(wav) / sample_rate, wavs, speeches)

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


def _batches(paths: list[Path], num_workers: int) -> list[list[Path]]:
    """Divide recordings into batches, in random order.

    So programs that prepare the same folder at once rarely compute the same recording; each skips
    those that another one has finished. Recordings inside one file stay together and in order,
    because they are read by the row group.
    """
    inside: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        if containers.parse(path) is not None:
            inside[io.split_address(path)[0]].append(path)
    files = [path for path in paths if containers.parse(path) is None]
    rng = random.Random(os.urandom(8))
    rng.shuffle(files)
    size = max(1, min(RECORDINGS_AT_ONCE, len(files) // (4 * max(1, num_workers))))
    batches = [files[i : i + size] for i in range(0, len(files), size)]
    for together in rng.sample(list(inside.values()), len(inside)):
        batches += [together[i : i + ROWS_AT_ONCE] for i in range(0, len(together), ROWS_AT_ONCE)]
    return batches


def _name(path: Path) -> str:
    """Return the name of a recording that is the same in every folder: an absolute path."""
    on_hub = containers.is_on_hub(path)
    return containers.with_two_slashes(path) if on_hub else os.fsdecode(os.path.realpath(path))


def _key(*made_by: object) -> str:
    """Hash settings to a name for the files that they make."""
    text = json.dumps([FORMAT_VERSION, *made_by], sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
