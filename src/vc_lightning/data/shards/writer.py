"""Write the features of a data module as WebDataset shards."""

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from shlex import quote

import numpy as np
import torch
from tqdm import tqdm

from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import expand_user, require_writable, write_json
from vc_lightning.data.features.files import CachedFeatures
from vc_lightning.data.manifest import Utterance
from vc_lightning.data.modules.voice import VoiceDataModule
from vc_lightning.data.shards.format import (
    FORMAT_VERSION,
    HEARD,
    Index,
    Split,
    checksum,
    require_webdataset,
    shard_name,
    webdataset,
)
from vc_lightning.models import pitch_tracker

log = logging.getLogger(__name__)

MIN_SHARDS = 16  # per split, so that up to 16 workers can read in parallel
TAR_OVERHEAD = 6144  # bytes of headers and padding for the five files of an utterance


def require_empty_folder(folder: str) -> Path:
    """Make an empty folder for shards.

    Raises:
        InputError: The folder is not empty or cannot be written, or webdataset is not installed.
    """
    require_webdataset("output")
    path = expand_user(folder)
    require_writable(path, "output", folder)
    if any(path.iterdir()):
        raise InputError(f"output={folder}: is not empty; name a new folder")
    return path


def write(data: VoiceDataModule, folder: str, max_megabytes: float, max_utterances: int) -> Index:
    """Write the features of a data module as shards; `index.json`, written last, completes them.

    Args:
        data: The data module, after `setup`.
        folder: A new or empty folder.
        max_megabytes: Largest size of a shard in megabytes.
        max_utterances: Largest number of utterances in a shard.

    Returns:
        The content of `index.json`.

    Raises:
        InputError: See `require_empty_folder`.
    """
    path = require_empty_folder(folder)
    sizes = {
        split: _write_split(data, utterances, path, split, max_megabytes * 1e6, max_utterances)
        for split, utterances in (("train", data.train), ("val", data.val))
    }
    index = Index(
        format=FORMAT_VERSION,
        mel=data.mel.settings,
        speaker_encoder=data.encoder_identity,
        speaker_embedding=data.speaker_embedding,
        vtlp_factors=data.features.files.factors[1:],
        pitch_tracker=pitch_tracker.NAME if data.needs.f0 else None,
        teacher=data.needs.teacher.identity if data.needs.teacher else None,
        teacher_std=data.teacher_std.tolist(),
        mean_mel=data.mean_mel().tolist(),
        recogniser=data.needs.recogniser.identity if data.needs.recogniser else None,
        heard_mean=data.heard_statistics[0].tolist(),
        heard_std=data.heard_statistics[1].tolist(),
        clean_acoustics=data.clean_acoustics().tolist(),
        **sizes,
    )
    write_json(path / "index.json", asdict(index))
    for split, size in sizes.items():
        seconds = size.frames * data.mel.hop_length / data.mel.sample_rate
        numbers = size.utterances, size.speakers, seconds / 3600, len(size.shards)
        log.info("%s: %d utterances of %d speakers, %.2f hours, in %d shards", split, *numbers)
    how = resources.command("train")
    log.info("train:   %s data=shards data.dir=%s", how, quote(str(folder)))
    return index


def _write_split(
    data: VoiceDataModule,
    utterances: Sequence[Utterance],
    folder: Path,
    split: str,
    max_bytes: float,
    max_utterances: int,
) -> Split:
    """Write a split to shards of about equal size, in random order to mix the speakers."""
    files, features = data.features.files, data.features_of(utterances)
    n_numbers = len(files.factors) * (data.mel.n_mels + len(data.heard_statistics[0]))
    n_numbers += len(data.teacher_std)  # per frame
    n_bytes = sum(2 * n_numbers * u.n_frames for u in utterances)
    n_bytes += len(utterances) * TAR_OVERHEAD
    needed = max(n_bytes / max_bytes, len(utterances) / max_utterances, MIN_SHARDS)
    n_shards = min(math.ceil(needed), len(utterances))
    order = np.random.default_rng(data.seed).permutation(len(utterances))
    progress = tqdm(desc=split, total=len(order), unit="utterance", dynamic_ncols=True)
    key = 0
    counts: list[int] = []
    with progress:
        for part in np.array_split(order, n_shards) if utterances else []:
            with (
                (folder / shard_name(split, len(counts))).open("wb") as file,
                webdataset.TarWriter(file, user="", group="", mtime=0) as tar,
            ):
                for i in part:
                    tar.write(_files_of(utterances[i].speaker, features[i], key))
                    key += 1
                    progress.update()
            counts.append(len(part))
    speakers, frames = {u.speaker for u in utterances}, sum(u.n_frames for u in utterances)
    return Split(len(utterances), len(speakers), frames, counts)


def _files_of(speaker: str, one: CachedFeatures, key: int) -> dict[str, str | bytes | dict]:
    """Encode an utterance as files."""
    n, copies = one.n_frames, range(len(one.files.factors))
    arrays = {
        "mels.npy": torch.stack([one.read_mel(0, n, copy).T for copy in copies]).half(),
        "embeddings.npy": torch.stack([one.read_embedding(copy) for copy in copies]).float(),
        "f0.npy": one.read_f0(0, n),
        "teacher.npy": one.read_teacher(0, n).half(),
    }
    if one.files.has("heard"):
        arrays[HEARD] = torch.stack([one.read_heard(0, n, copy).T for copy in copies]).half()
    encoded = {name: webdataset.numpy_dumps(array.numpy()) for name, array in arrays.items()}
    about = {
        "speaker": speaker,
        "n_frames": n,
        "crc32": checksum(encoded),  # a tar has none for contents
    }
    return {"__key__": f"{key:08d}", "json": about, **encoded}
