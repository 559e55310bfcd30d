"""Measure the speed of computing features, pitch included: throughput, stages and lower limit.

python benchmarks/feature_speed.py [FOLDER] [--files N] [--workers 1 2] [--public FOLDER]

FOLDER has the recordings; without it, the examples are repeated. The folder of --public has your
copies of `resemblyzer/` (Resemblyzer 0.1.4) and `make_spect.py` (auspicious3000/autovc), which are
then timed beside ours, file by file. OMP_NUM_THREADS=1 gives them one thread.
"""

import argparse
import contextlib
import functools
import os
import random
import runpy
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import librosa
import numpy as np
import scipy.ndimage
import soundfile
import torch
from torch import Tensor

from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import resources
from vc_lightning.data.features.cache import RECORDINGS_AT_ONCE, FeatureCache
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.models import checkpoints, pitch_tracker
from vc_lightning.models.speaker_encoder import SpeakerEncoder, similarity

FACTORS = [0.8, 0.9, 1.1, 1.25]  # of experiment=taught


def main() -> None:
    """Time all variants in turns, for several rounds, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, help="recordings; else the examples")
    parser.add_argument("--files", type=int, default=48, help="how many of them, at random")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--public", type=Path, help="folder of resemblyzer/ and make_spect.py")
    options = parser.parse_args()
    encoder = checkpoints.load_speaker_encoder()
    mel = MelSpectrogram(**resources.settings("mel", "autovc"))
    with tempfile.TemporaryDirectory() as folder:
        paths = recordings(options.folder, options.files, Path(folder))
        seconds = sum(soundfile.info(path).duration for path in paths)
        print(f"{len(paths)} recordings of {seconds / len(paths):.1f} s on average")
        print("\n| | workers | VTLP copies | h/min | ms a file |\n|---|---|---|---|---|")
        for name, n_workers, n_factors, taken in throughput(paths, mel, encoder, options):
            hours = seconds / 3600 / (taken / 60)
            each = 1e3 * taken / len(paths)
            print(f"| {name} | {n_workers} | {n_factors} | {hours:.2f} | {each:.1f} |")
        torch.set_num_threads(1)  # as in a worker
        stages(paths, mel, encoder, options.rounds)


def recordings(folder: Path | None, n_files: int, copies: Path) -> list[Path]:
    """List at most n_files recordings of a folder; without one, copies of the examples."""
    if folder is None:
        examples = sorted((resources.ROOT / "examples").glob("*.wav"))
        return [
            Path(shutil.copy(examples[i % len(examples)], copies / f"{i}.wav"))
            for i in range(n_files)
        ]
    found = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in io.AUDIO_SUFFIXES]
    return random.Random(0).sample(found, min(n_files, len(found)))


def throughput(
    paths: list[Path], mel: MelSpectrogram, encoder: SpeakerEncoder, options: argparse.Namespace
) -> list[tuple[str, int, int, float]]:
    """Measure every variant: its name, workers, VTLP copies and median seconds for all paths."""
    ways: dict[tuple, Callable[[], object]] = {}
    if options.public:
        threads = torch.get_num_threads()
        ways[f"public pipeline, {threads} threads", 1, 0] = public_pipeline(options.public, paths)
    for factors in ([], FACTORS):
        for n_workers in options.workers:
            for name, bf16 in (("float32", False), ("bf16", True)):
                ways[name, n_workers, len(factors)] = functools.partial(
                    compute, paths, mel, encoder, factors, n_workers, bf16
                )
    taken = timed(ways, options.rounds)
    return [(*way, taken[way]) for way in ways]


def compute(
    paths: list[Path],
    mel: MelSpectrogram,
    encoder: SpeakerEncoder,
    factors: list[float],
    n_workers: int,
    bf16: bool,
) -> None:
    """Compute the features of all paths into an empty cache."""
    with tempfile.TemporaryDirectory() as root, quiet():
        needs = FeatureNeeds(mel, encoder, "benchmark", f0=True)
        cache = FeatureCache(root, needs, factors, bf16=bf16)
        cache.prepare(paths, n_workers)


def timed(ways: dict[tuple, Callable[[], object]], rounds: int) -> dict[tuple, float]:
    """Measure median seconds of each variant; all take turns, after a round to warm up."""
    taken = defaultdict(list)
    for _ in range(rounds + 1):
        for way, run in ways.items():
            start = time.perf_counter()
            run()
            taken[way].append(time.perf_counter() - start)
    return {way: statistics.median(times[1:]) for way, times in taken.items()}


def public_pipeline(folder: Path, paths: Sequence[Path]) -> Callable[[], None]:
    """Make a function that computes mels and embeddings of all paths by the public code."""
    folder = folder.resolve()
    sys.modules["scipy.ndimage.morphology"] = scipy.ndimage  # its name until SciPy 1.15
    sys.path.insert(0, str(folder))
    import resemblyzer

    encoder = resemblyzer.VoiceEncoder("cpu", verbose=False)
    filters = librosa.filters.mel

    def run() -> None:
        with tempfile.TemporaryDirectory() as root, contextlib.chdir(root), quiet():
            for name in ("wavs/p1", "spmel"):
                Path(name).mkdir(parents=True)
            for index, path in enumerate(paths):
                Path(f"wavs/p1/{index:05}{path.suffix}").symlink_to(path.resolve())
            # Positional arguments until librosa 0.10.
            librosa.filters.mel = lambda sr, n_fft, **rest: filters(sr=sr, n_fft=n_fft, **rest)
            runpy.run_path(str(folder / "make_spect.py"))
            librosa.filters.mel = filters
        for path in paths:
            encoder.embed_utterance(resemblyzer.preprocess_wav(path))

    return run


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide progress bars and printed lines."""
    with (
        Path(os.devnull).open("w") as nothing,
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
    ):
        yield


@torch.inference_mode()
def stages(
    paths: Sequence[Path], mel: MelSpectrogram, encoder: SpeakerEncoder, rounds: int
) -> None:
    """Print milliseconds of each stage on one thread, the cosine of bf16, and the lower limit."""
    loaded = [io.load(path) for path in paths]
    leveled = [mel.leveled(*recording) for recording in loaded]
    filtered = [torch.from_numpy(mel.filtered(wav)) for wav in leveled]
    speeches = [encoder.mel.prepare(wav, mel.sample_rate) for wav in leveled]
    banks = {
        0: mel.filters[None],
        len(FACTORS): torch.stack([*map(mel.vtlp_filters, [1, *FACTORS])]),
    }
    parts = [
        speeches[i : i + RECORDINGS_AT_ONCE] for i in range(0, len(speeches), RECORDINGS_AT_ONCE)
    ]

    def mels(filters: Tensor) -> list[Tensor]:
        return [mel(wav, filters) for wav in filtered]

    def embeddings(factors: list[float], bf16: bool) -> list[np.ndarray]:
        return [encoder.embed_batch(part, factors, bf16) for part in parts]

    ways: dict[tuple, Callable[[], object]] = {
        ("decode",): lambda: [io.load(path) for path in paths],
        ("level",): lambda: [mel.leveled(*recording) for recording in loaded],
        ("high-pass filter",): lambda: [mel.filtered(wav) for wav in leveled],
        ("pitch",): lambda: [
            pitch_tracker.track(wav.numpy(), mel.sample_rate, mel.hop_length) for wav in filtered
        ],
        ("cut pauses",): lambda: [encoder.mel.prepare(wav, mel.sample_rate) for wav in leveled],
    }
    for n_factors, filters in banks.items():
        factors = [1.0, *FACTORS[:n_factors]]
        name = f"{n_factors} VTLP copies"
        ways |= {
            (f"mel, {name}",): functools.partial(mels, filters),
            (f"embedding, {name}, float32",): functools.partial(embeddings, factors, False),
            (f"embedding, {name}, bf16",): functools.partial(embeddings, factors, True),
        }
    print("\n| stage, one thread | ms a file |\n|---|---|")
    for (name,), taken in timed(ways, rounds).items():
        print(f"| {name} | {1e3 * taken / len(paths):.1f} |")

    exact, rounded = (
        np.concatenate([encoder.embed_batch(part, bf16=bf16)[:, 0] for part in parts])
        for bf16 in (False, True)
    )
    cosines = [similarity(a, b) for a, b in zip(exact, rounded, strict=True)]
    print(f"\ncosine of bf16 to float32: least {min(cosines):.5f}, mean {np.mean(cosines):.5f}")
    n_partials = sum(len(encoder._partial_starts(len(speech))) for speech in speeches)
    gigaflop = n_partials * flop_of_a_partial(encoder) / 1e9 / len(paths)
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        rate = matmul_rate(dtype)
        print(
            f"lower limit of an embedding in {name}: {gigaflop:.2f} GFLOP a file at "
            f"{rate:.0f} GFLOP/s = {1e3 * gigaflop / rate:.1f} ms"
        )


def flop_of_a_partial(encoder: SpeakerEncoder) -> int:
    """Count the operations in the matrix products of the LSTM over one partial: 0.43 G for GE2E."""
    weights = sum(p.numel() for name, p in encoder.lstm.named_parameters() if "weight" in name)
    return 2 * weights * encoder.partial_frames


def matmul_rate(dtype: torch.dtype) -> float:
    """Measure GFLOP/s of one thread in products of the size of an LSTM layer over a batch."""
    left, right = torch.rand(4096, 512, dtype=dtype), torch.rand(512, 1024, dtype=dtype)
    taken = timed({("matmul",): lambda: left @ right}, rounds=20)["matmul",]
    return 2 * 4096 * 512 * 1024 / taken / 1e9


if __name__ == "__main__":
    main()
