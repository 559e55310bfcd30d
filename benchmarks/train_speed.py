"""Speed of training on this machine: steps and GFLOP/s, compared with its matrix products.

    python benchmarks/train_speed.py
    python benchmarks/train_speed.py --data FOLDER --batch-sizes 2,16 --compile model=autovc_small
    python benchmarks/train_speed.py --public FOLDER --cpu-time

Each line is `train.py` itself, with data loading, logging and averaging, in a process of its own;
arguments with `=` are passed to it. `--public` names a folder with the model_vc.py of the public
AutoVC (github.com/auspicious3000/autovc), whose training loop then gets the same batches. Numbers
are medians over the second half of the steps. `--cpu-time` measures CPU time in place of wall time:
for one thread on a busy machine.
"""

import argparse
import itertools
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import soundfile
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict
from pytorch_lightning import Callback, LightningModule, Trainer
from torch.nn import functional as F

from vc_lightning.audio.files import io
from vc_lightning.common import resources
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import read_speaker_encoder

PIECES, PIECE_SECONDS = 16, 4  # excerpts of each example, if no folder is given
FETCH = "[_TrainingEpochLoop].train_dataloader_next"  # Lightning's name for waiting for a batch


class Clock(Callback):
    """Records the end of each training step, and how long the Trainer waited for each batch."""

    now: Callable[[], float] = time.perf_counter
    ends: list[float]
    waits: list[float]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Clock.ends = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        Clock.ends.append(Clock.now())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        profiler = trainer.profiler  # type: ignore[attr-defined]  # set, but not declared
        Clock.waits = profiler.recorded_durations[FETCH]


def ours(overrides: list[str], now: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Measure the seconds of the steps of `train.py`, and how long each waited for data."""
    from vc_lightning.commands import train

    Clock.now = now

    warnings.filterwarnings("ignore", module="pytorch_lightning")
    cfg = composed(overrides)
    with open_dict(cfg):
        cfg.callbacks["clock"] = {"_target_": f"{Clock.__module__}.Clock"}
        del cfg.callbacks["samples"]  # sound and pictures, every 2 000 steps
        del cfg.callbacks["progress"]
    quietly(lambda: train.main(cfg))
    return differences(Clock.ends), Clock.waits[1 : len(Clock.ends)]


def public(
    folder: str, overrides: list[str], n_steps: int, now: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """Measure the same for the public implementation's loop, after its solver_encoder.py."""
    sys.path.insert(0, folder)
    from model_vc import Generator

    cfg = composed(overrides)
    encoder, card = read_speaker_encoder(resources.SPEAKER_ENCODER)
    needs = FeatureNeeds(instantiate(cfg.mel), encoder, card.speaker_encoder)
    data = instantiate(cfg.data, _convert_="all").build(needs)
    quietly(data.setup)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sizes = (cfg.model[key] for key in ("dim_neck", "dim_emb", "dim_pre", "freq"))
    generator = Generator(*sizes).to(device).train()
    optimizer = torch.optim.Adam(generator.parameters(), 1e-4)
    loader = data.train_dataloader()
    batches = itertools.chain.from_iterable(itertools.repeat(loader))  # epochs may be short
    ends, waits = [], []
    for _ in range(n_steps):
        start = now()
        batch = next(batches)
        waits.append(now() - start)
        mel = batch.target_mel.transpose(1, 2).to(device)
        speaker = batch.target_embedding.to(device)
        first, second, codes = generator(mel, speaker, speaker)
        decoder = F.mse_loss(first.squeeze(1), mel)
        postnet = F.mse_loss(second.squeeze(1), mel)
        content = F.l1_loss(generator(second, speaker, None), codes)
        optimizer.zero_grad()
        (decoder + postnet + content).backward()
        optimizer.step()
        for term in (decoder, postnet, content):
            term.item()
        ends.append(now())
    return differences(ends), waits[1:]


def composed(overrides: list[str]) -> DictConfig:
    """Compose the configuration of a command line of train.py, by default of the paper's recipe."""
    if not any(override.startswith("experiment=") for override in overrides):
        overrides = ["experiment=paper", *overrides]
    with initialize_config_dir(str(resources.CONF), version_base="1.3"):
        return compose("train", overrides=overrides)


def quietly(call: Callable[[], None]) -> None:
    logging.disable(logging.WARNING)
    call()
    logging.disable(logging.NOTSET)


def differences(ends: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(ends)]


def flops_per_frame(network: AutoVC) -> int:
    """Floating-point operations of a training step, for each frame of the batch.

    A weight is multiplied and added once per frame in the forward pass and twice in the backward
    pass. The encoder's weights count twice, because the content loss encodes the output, too.
    """

    def weights(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters() if p.ndim > 1)

    return 6 * (weights(network) + weights(network.encoder))


def matmul_gflops(
    dtype: torch.dtype,
    device: str,
    size: int = 2048,
    now: Callable[[], float] = time.perf_counter,
) -> float:
    """Measure the speed of the product of two square matrices."""
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    seconds = []
    for _ in range(20):
        start = now()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(now() - start)
    return 2 * size**3 / statistics.median(seconds) / 1e9


def cut_examples(folder: Path) -> None:
    """Write two speakers' folders with overlapping excerpts of the recordings in examples/."""
    for name in ("source", "target"):
        wav, sample_rate = io.load(resources.ROOT / "examples" / f"{name}.wav")
        (folder / name).mkdir()
        size = PIECE_SECONDS * sample_rate
        for index in range(PIECES):
            start = index * (len(wav) - size) // PIECES
            path = folder / name / f"{index}.wav"
            soundfile.write(path, wav[start : start + size], sample_rate)


def measured(call: Callable[..., tuple], *arguments: object) -> tuple[float, float]:
    """Measure the median seconds of a step, and the share of the time that it waits for data.

    The measurement has a process of its own, without the memory and threads of earlier ones.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        seconds, waits = processes.submit(call, *arguments).result()
    half = len(seconds) // 2
    return statistics.median(seconds[half:]), sum(waits[half:]) / sum(seconds[half:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of recordings; else the examples")
    parser.add_argument("--batch-sizes", default="2,16", help="separated by commas")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--cpu-time", action="store_true", help="of the processor, not the clock")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile")
    parser.add_argument("--public", help="folder with the public model_vc.py")
    parser.add_argument("overrides", nargs="*", help="as of train.py: model=autovc_small")
    arguments = parser.parse_intermixed_args()
    overrides = arguments.overrides
    now = time.process_time if arguments.cpu_time else time.perf_counter

    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"{torch.get_num_threads()} threads, {device}, torch {torch.__version__}")
    for dtype in (torch.float32, torch.bfloat16):
        print(f"matmul {str(dtype)[6:]:9} {matmul_gflops(dtype, device, now=now):8.0f} GFLOP/s")
    network = instantiate(composed(overrides).model)
    print(f"{flops_per_frame(network) / 1e6:.0f} MFLOP per frame\n")
    print("batch  what                  s/step   steps/s   GFLOP/s   waiting")

    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data
        if data is None:
            data = Path(folder) / "recordings"
            data.mkdir()
            cut_examples(data)
        fixed = [
            f"data.dir={data}",
            f"data.cache_dir={folder}/cache",
            f"run_dir={folder}",
            "init_from=null",
            f"trainer.max_steps={arguments.steps}",
            "trainer.profiler=simple",
            "trainer.limit_val_batches=0",
        ]
        for size in map(int, arguments.batch_sizes.split(",")):
            here = [*fixed, f"data.batch_size={size}", *overrides]
            variants: dict[str, tuple] = {  # a function and its arguments
                name + suffix: (
                    ours,
                    [*here, f"trainer.precision={precision}", f"compile={compiled}"],
                    now,
                )
                for name, precision in (("float32", "32-true"), ("bfloat16", "bf16-mixed"))
                for suffix, compiled in (("", False), (" compiled", True))
                if arguments.compile or not compiled
            }
            if arguments.public:
                variants["public, float32"] = (
                    public,
                    arguments.public,
                    here,
                    arguments.steps,
                    now,
                )
            frames = size * composed(here).data.crop_frames
            for name, call in variants.items():
                seconds, waiting = measured(*call)
                gflops = flops_per_frame(network) * frames / seconds / 1e9
                print(
                    f"{size:5}  {name:18} {seconds:9.3f} {1 / seconds:9.2f} {gflops:9.0f} "
                    f"{waiting:8.1%}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
