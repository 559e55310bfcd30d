"""The feature cache: mel and speaker embedding of every recording, computed once."""

import hashlib
import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from vc_lightning import audio
from vc_lightning.errors import InputError
from vc_lightning.mel import MelSpectrogram
from vc_lightning.speaker_encoder import SpeakerEncoder

log = logging.getLogger(__name__)

FORMAT_VERSION = 1  # part of every key: counted up when the contents of entries change


class FeatureCache:
    """One safetensors file a recording, named by what made it.

    The key covers the recording (path, size, modification time), the mel settings and the speaker
    encoder, so that a change of any of them computes anew just what depends on it. Mels are kept
    as float16: in 0…1 that rounds by at most 0.025 dB.

    Beside the features of the recording an entry holds those of copies whose frequency axis is
    stretched by each of `warps` (see `mel.mel_filters`): other voices with the same words.

    Args:
        root: folder of the cache, shared by any number of data sets and runs.
        mel: makes the mels.
        speaker_encoder: makes the embeddings; `encoder_identity` names its weights.
        warps: factors of the copies; often none.
    """

    def __init__(
        self,
        root: Path,
        mel: MelSpectrogram,
        speaker_encoder: SpeakerEncoder,
        encoder_identity: str,
        warps: Sequence[float] = (),
    ):
        self.root = Path(root).expanduser()
        self.mel = mel
        self.speaker_encoder = speaker_encoder
        self.warps = [1.0, *warps]
        self.settings = [FORMAT_VERSION, mel.settings, encoder_identity, self.warps]

    def entry(self, path: Path) -> Path:
        """File that holds, or will hold, the features of a recording."""
        stat = path.stat()
        made_by = [str(path.resolve()), stat.st_size, stat.st_mtime_ns, *self.settings]
        key = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:32]
        return self.root / key[:2] / f"{key}.safetensors"

    @torch.inference_mode()
    def compute(self, path: Path) -> Path:
        """Computes and stores the features of one recording; InputError when it is unusable."""
        wav, sample_rate = audio.load(path)
        encoder = self.speaker_encoder
        level_dbfs = self.mel.settings["level_dbfs"]
        try:
            prepared = torch.from_numpy(self.mel.prepare(wav, sample_rate))
            speech = encoder.prepare_recording(wav, sample_rate, level_dbfs)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        mels = [self.mel(prepared, self.mel.warped_filters(warp)).T for warp in self.warps]
        embeddings = [encoder.embed_speech(speech, warp) for warp in self.warps]
        entry = self.entry(path)
        entry.parent.mkdir(parents=True, exist_ok=True)
        features = {
            "mels": np.stack(mels).astype(np.float16, order="C"),  # (1 + n_warps, T, n_mels)
            "embeddings": np.stack(embeddings),  # (1 + n_warps, embedding_size)
        }
        with audio.atomic_path(entry) as temporary:
            save_file(features, temporary)
        return entry

    def prepare(self, paths: Sequence[Path], num_workers: int) -> dict[Path, str]:
        """Computes what is missing, in parallel, with a progress bar.

        Returns: the unusable recordings and why.
        """
        self._require_writable()
        missing = [path for path in paths if n_frames(self.entry(path)) is None]
        if not missing:
            return {}
        log.info("computing features of %d of %d recordings", len(missing), len(paths))
        failures = {}
        loader = DataLoader(
            _Computation(self, missing), batch_size=None, num_workers=min(num_workers, len(missing))
        )
        for path, reason in tqdm(loader, desc="features", unit="file", dynamic_ncols=True):
            if reason:
                failures[Path(path)] = reason
        return failures

    def _require_writable(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise InputError(
                f"data.cache_dir {self.root} cannot be written ({error.strerror}); name another"
            ) from error


class _Computation(Dataset):
    """Lets a DataLoader's workers compute features: item i is a path and why it failed, or ""."""

    def __init__(self, cache: FeatureCache, paths: list[Path]):
        self.cache = cache
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[str, str]:
        path = self.paths[index]
        try:
            self.cache.compute(path)
        except InputError as error:
            return str(path), str(error).removeprefix(f"{path}: ")
        return str(path), ""


def n_frames(entry: Path) -> int | None:
    """Frames of a cached mel; None when the entry is missing or damaged."""
    try:
        with safe_open(entry, "numpy") as file:
            return file.get_slice("mels").get_shape()[1]
    except (OSError, SafetensorError):
        return None


def read_mel(entry: Path, start: int, stop: int, copy: int = 0) -> torch.Tensor:
    """Frames start…stop of a cached mel, float32 (n_mels, stop − start); reads nothing else.

    Args: copy, 0 for the recording, i for its copy by the i-th warp.
    """
    with safe_open(entry, "pt") as file:
        return file.get_slice("mels")[copy, start:stop].float().T


def read_embedding(entry: Path, copy: int = 0) -> torch.Tensor:
    """The cached speaker embedding (embedding_size,) of a recording or its copy."""
    with safe_open(entry, "pt") as file:
        return file.get_slice("embeddings")[copy]
