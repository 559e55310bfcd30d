"""Measure loading of a corpus larger than memory: start, memory and speed of shards and cache.

python benchmarks/large_corpus.py FOLDER [--utterances 100000] [--frames 250] [--seconds 15]

The features are synthetic: random mels of the right shape and size. The first run makes them in
FOLDER (about 5 GB of shards and 3 GB of cache for 100 000 utterances) and reports how long that
took; later runs measure only. Every measurement is a process of its own. OMP_NUM_THREADS=1 gives
it one thread.
"""

import argparse
import itertools
import json
import resource
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import resources
from vc_lightning.common.files import write_json
from vc_lightning.common.precision import best_precision
from vc_lightning.data.features.cache import FeatureCache
from vc_lightning.data.features.files import save
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.data.modules.base import TrainingDataModule
from vc_lightning.data.modules.shards import ShardsSettings
from vc_lightning.data.modules.voice import VoiceSettings
from vc_lightning.data.shards import format as shards
from vc_lightning.data.shards.format import Index, Split
from vc_lightning.models.checkpoints import read_speaker_encoder

N_SPEAKERS = 1_000
N_DRAWS = 16  # different mels; the utterances repeat them
CACHE_FRAMES = 64  # of an utterance in the cache: its start reads headers only
SHARD_UTTERANCES = 5_000
BATCH_SIZE = 16


def main() -> None:
    """Make the features that are missing, then measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--utterances", type=int, default=100_000)
    parser.add_argument("--frames", type=int, default=250, help="length of an utterance")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each speed measurement")
    parser.add_argument("--what", nargs="+", default=["disk", "http", "cache"])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--child", help="a measurement, as this script calls itself")
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options)))
        return
    make_missing(options)
    columns = "setup s | first batch s | crops/s | per CPU s | memory MB | of workers MB"
    print(f"| from | workers | {columns} |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for what, workers in itertools.product(options.what, options.workers):
        with Server(options.folder / "shards", what == "http") as place:
            place = str(options.folder) if what == "cache" else place
            found = run_child(f"{what} {place}", workers, options)
        print(f"| {what} | {workers} | {' | '.join(f'{value:.3g}' for value in found)} |")


def run_child(what: str, workers: int, options: argparse.Namespace) -> list[float]:
    """Measure in a new process."""
    lengths = [f"--{name}={getattr(options, name)}" for name in ("utterances", "seconds")]
    command = [sys.executable, __file__, str(options.folder), "--child", what, *lengths]
    command += ["--workers", str(workers)]
    return json.loads(subprocess.check_output(command).splitlines()[-1])


class Server:
    """Serve a folder over local HTTP from a separate process, if requested."""

    def __init__(self, folder: Path, is_http: bool):
        self.folder = folder
        self.is_http = is_http

    def __enter__(self) -> str:
        if not self.is_http:
            return str(self.folder)
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            port = listening.getsockname()[1]
        command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
        command += ["--directory", str(self.folder)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return f"http://127.0.0.1:{port}"
            except ConnectionRefusedError:
                time.sleep(0.05)

    def __exit__(self, *exception: object) -> None:
        if self.is_http:
            self.process.kill()


def measure(what: str, options: argparse.Namespace) -> list[float]:
    """Measure seconds to set up and to the first batch, crops a second, and memory.

    On a busy machine, crops per second of CPU time are more reliable than crops per second.
    """
    kind, _, place = what.partition(" ")
    data: TrainingDataModule
    (workers,) = options.workers
    encoder, card = read_speaker_encoder(resources.SPEAKER_ENCODER)
    mel = MelSpectrogram(**resources.settings("mel", "autovc"))
    needs = FeatureNeeds(mel, encoder, card.speaker_encoder)
    shared = resources.settings("data/parts", "loading") | resources.settings("data/parts", "crops")
    shared |= {"seed": 0, "num_workers": workers, "batch_size": BATCH_SIZE}
    shared.pop("defaults", None)
    before = memory()
    started = time.perf_counter()
    if kind == "cache":
        own = resources.settings("data/parts", "recordings") | resources.settings("data", "folder")
        own |= {"cache_dir": f"{place}/cache", "manifest": f"{place}/MANIFEST.tsv"}
        del own["defaults"]
        data = VoiceSettings(**shared | own).build(needs)
    else:
        own = resources.settings("data", "shards") | {"dir": place}
        del own["defaults"]
        data = ShardsSettings(**shared | own).build(needs)
    data.setup()
    setup = time.perf_counter() - started
    batches = itertools.chain.from_iterable(itertools.repeat(data.train_dataloader()))
    next(batches)
    first = time.perf_counter() - started - setup
    started, cpu, n = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - started < options.seconds:
        next(batches)
        n += BATCH_SIZE
    rate, cpu_rate = n / (time.perf_counter() - started), n / (time.process_time() - cpu)
    of_workers = sum(memory(child) for child in psutil.Process().children())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [setup, first, rate, cpu_rate, peak - before, of_workers]


def memory(process: psutil.Process | None = None) -> float:
    """Return the resident memory of a process in MB."""
    return (process or psutil.Process()).memory_info().rss / 2**20


def make_missing(options: argparse.Namespace) -> None:
    """Make shards and cache, and report how long that took."""
    for name, make in {"shards": make_shards, "cache": make_cache}.items():
        done = options.folder / f"{name}_{options.utterances}"
        if done.exists() or (name == "cache" and "cache" not in options.what):
            continue
        started = time.perf_counter()
        frames = options.frames if name == "shards" else CACHE_FRAMES
        make(options.folder, options.utterances, frames)
        done.touch()
        print(f"{name} of {options.utterances} utterances: {time.perf_counter() - started:.0f} s")


def draw(n_frames: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Draw random mels (n_frames, n_mels) as float16, and an embedding."""
    rng = np.random.default_rng(0)
    n_mels = resources.settings("mel", "autovc")["n_mels"]
    mels = [rng.random((n_frames, n_mels)).astype(np.float16) for _ in range(N_DRAWS)]
    embedding = rng.standard_normal(256).astype(np.float32)
    return mels, embedding / np.linalg.norm(embedding)


def make_shards(folder: Path, n_utterances: int, n_frames: int) -> None:
    """Write shards as `shard_writer` does."""
    place = folder / "shards"
    place.mkdir(parents=True, exist_ok=True)
    mels, embedding = draw(n_frames)
    dumps = shards.webdataset.numpy_dumps
    drawn = []
    for mel in mels:
        files = {"mels.npy": dumps(mel[None]), "embeddings.npy": dumps(embedding[None])}
        files["f0.npy"] = dumps(np.zeros(n_frames, np.float32))
        files["teacher.npy"] = dumps(np.zeros((n_frames, 0), np.float16))
        drawn.append((files, shards.checksum(files)))
    counts: list[int] = []
    for start in range(0, n_utterances, SHARD_UTTERANCES):
        keys = range(start, min(start + SHARD_UTTERANCES, n_utterances))
        with (
            (place / shards.shard_name("train", len(counts))).open("wb") as file,
            shards.webdataset.TarWriter(file, mtime=0) as tar,
        ):
            for key in keys:
                files, checksum = drawn[key % N_DRAWS]
                about = {"speaker": f"s{key % N_SPEAKERS}", "n_frames": n_frames, "crc32": checksum}
                tar.write({"__key__": f"{key:08d}", "json": about, **files})
        counts.append(len(keys))
    nothing = Split(0, 0, 0, [])
    index = Index(
        format=shards.FORMAT_VERSION,
        mel=resources.settings("mel", "autovc"),
        speaker_encoder=read_speaker_encoder(resources.SPEAKER_ENCODER)[1].speaker_encoder,
        speaker_embedding="utterance",
        vtlp_factors=[],
        pitch_tracker=None,
        teacher=None,
        teacher_std=[],
        mean_mel=np.mean(mels, axis=(0, 1), dtype=float).tolist(),
        train=Split(n_utterances, N_SPEAKERS, n_utterances * n_frames, counts),
        val=nothing,
    )
    write_json(place / "index.json", asdict(index))


def make_cache(folder: Path, n_utterances: int, n_frames: int) -> None:
    """Make a manifest of placeholder files, and their entries in the cache."""
    encoder, card = read_speaker_encoder(resources.SPEAKER_ENCODER)
    mel = MelSpectrogram(**resources.settings("mel", "autovc"))
    max_seconds = resources.settings("data/parts", "recordings")["max_seconds"]
    needs = FeatureNeeds(mel, encoder, card.speaker_encoder)
    bf16 = best_precision("cpu") == "bf16-mixed"  # as data.feature_precision=auto
    cache = FeatureCache(folder / "cache", needs, max_seconds=max_seconds, bf16=bf16)
    mels, embedding = draw(n_frames)
    rows = ["path\tspeaker"]
    for number in range(n_utterances):
        path = folder / "recordings" / f"s{number % N_SPEAKERS}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}")
        content = cache.remember(path)
        arrays = {"mel": mels[number % N_DRAWS], "spans": np.array([[0, n_frames]])}
        save(cache.files.path("mels", content), arrays)
        save(cache.files.path("voices", content), {"embeddings": embedding[None]})
        rows.append(f"{path.relative_to(folder)}\ts{number % N_SPEAKERS}")
    (folder / "MANIFEST.tsv").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
