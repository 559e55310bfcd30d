"""Teach the content encoder of a network that listens what streams hear.

    python scripts/weights/teach_streams.py autovc.safetensors MANIFEST.tsv OUTPUT.safetensors

A stream knows little of what comes after the newest frames, so that its recogniser hears them
otherwise than in a file. The encoder learns to give the codes of the file from what the stream
hears, and to keep the codes of files as they are: both by the mean squared error, relative to the
variance of each channel. The manifest has the columns path and split; recordings of the split train
are heard in steps of 64 to 160 ms, and the error is printed for those of the split val. Everything
but the encoder stays as it is.
"""

import argparse
import copy
import csv
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vc_lightning import VoiceConverter
from vc_lightning.common.errors import InputError
from vc_lightning.common.precision import best_precision
from vc_lightning.common.resources import settings
from vc_lightning.conversion.live.stream import VoiceStream
from vc_lightning.conversion.voices.voice import Voice
from vc_lightning.models import checkpoints
from vc_lightning.models.autovc import AutoVC

BLOCK_SECONDS = (0.064, 0.08, 0.112, 0.16)
N_BATCH = 48
CROP_FRAMES = 128  # of files
LR, WARMUP_SHARE, LAST_LR = 3e-4, 0.05, 0.05  # the last one as a share of the first
EMA_DECAY = 0.995
LOG_EVERY = 250


class Listener(VoiceStream):
    """A stream that hears, and converts nothing.

    Attributes:
        windows: Of each step, the number of its first frame and what is heard (T, dim) in its
            frames.
        n_newest: Frames at the end of a window whose codes the stream decodes.
    """

    def __init__(self, converter: VoiceConverter, wav: np.ndarray, block_seconds: float):
        dim_emb = converter.autovc.arguments["dim_emb"]
        voice = Voice(np.zeros(dim_emb, np.float32), None)  # hearing does not depend on it
        super().__init__(
            converter.networks,
            voice,
            guidance=0.0,
            sample_rate=converter.sample_rate,
            block_seconds=block_seconds,
            lookahead_seconds=settings("", "live")["lookahead_seconds"],
            context_seconds=settings("", "live")["context_seconds"],
            listens=True,
            source=voice,
            seed=0,
        )
        self.windows: list[tuple[int, np.ndarray]] = []
        self.n_newest = self._n_decoded
        self.push(wav)

    def _step(self, unit: np.ndarray) -> np.ndarray:
        self._analyze(unit)
        freq = self.networks.autovc.freq
        rate = self.networks.sample_rate / self._hop
        n_frames = self._mel.shape[-1] // freq * freq
        first = self._first + self._mel.shape[-1] - n_frames
        heard = self._hearing.features(first / rate, n_frames, rate)
        self.windows.append((first, heard.astype(np.float16)))
        self._n_hops += self._n_step
        self._n_final = self._n_hops + self._reach
        self._drop_old()
        return np.zeros(self._n_step * self._hop, np.float32)

    def _track(self, n_frames: int) -> None:
        self._f0 = np.zeros(n_frames - self._first, np.float32)
        self._n_pitch_learned = n_frames


@dataclass
class Heard:
    """What is heard of one recording.

    Attributes:
        file: What a file hears, float16 (T, dim).
        windows: What a stream hears in each of its steps, float16 (n, dim).
        codes: The codes of the file, float16 (m, C), for the last codes of each window: those that
            the stream decodes.
    """

    file: np.ndarray
    windows: list[np.ndarray]
    codes: list[np.ndarray]


@torch.inference_mode()
def hear(converter: VoiceConverter, paths: Sequence[Path]) -> list[Heard]:
    """Let a file and a stream hear each recording."""
    network, found = converter.autovc, []
    for path in paths:
        try:
            file = converter.analyze(path).content
            stream = Listener(converter, converter.load(path), random.choice(BLOCK_SECONDS))
        except InputError as error:
            logging.warning("skipped %s", error)
            continue
        # Codes that begin with an even frame, and with an odd one, where a code has two frames.
        by_phase = [
            network.encode(torch.from_numpy(file[phase:]).t()[None], None)[0].t().numpy()
            for phase in range(network.freq)
        ]
        one = Heard(file.astype(np.float16), [], [])
        for first, window in stream.windows:
            last = first + len(window)
            begin = last - stream.n_newest
            if begin >= 0 and last <= len(file):
                number, phase = divmod(begin, network.freq)
                codes = by_phase[phase][number : number + stream.n_newest // network.freq]
                one.windows.append(window)
                one.codes.append(codes.astype(np.float16))
        if one.windows:
            found.append(one)
    return found


def of_streams(heard: Sequence[Heard], n: int, freq: int) -> tuple[Tensor, Tensor]:
    """Draw n windows -> what a stream hears (n, dim, T), and the codes at their ends (n, C, m)."""
    drawn = []
    for one in random.choices(heard, k=n):
        index = random.randrange(len(one.windows))
        drawn.append((one.windows[index], one.codes[index]))
    n_frames = min(len(window) for window, _ in drawn)
    n_codes = min(len(codes) for _, codes in drawn)
    n_codes = min(n_codes, n_frames // freq)
    windows = np.stack([window[len(window) - n_frames :] for window, _ in drawn])
    codes = np.stack([codes[len(codes) - n_codes :] for _, codes in drawn])
    return as_batch(windows), as_batch(codes)


def of_files(heard: Sequence[Heard], n: int) -> Tensor:
    """Draw n crops of what files hear (n, dim, T)."""
    files = random.choices([one.file for one in heard if len(one.file) >= CROP_FRAMES], k=n)
    starts = [random.randint(0, len(file) - CROP_FRAMES) for file in files]
    crops = [file[start:][:CROP_FRAMES] for file, start in zip(files, starts, strict=True)]
    return as_batch(np.stack(crops))


def as_batch(frames: np.ndarray) -> Tensor:
    """Bring float16 (n, T, C) into the order of the networks, float32 (n, C, T)."""
    return torch.from_numpy(frames).float().transpose(1, 2)


class Teacher:
    """Measures how far codes are from those of files, relative to the variance of each channel.

    Args:
        network: The network; its encoder, as it is now, gives the codes of files.
        heard: Recordings.
    """

    def __init__(self, network: AutoVC, heard: Sequence[Heard]):
        self.network = network
        self.encoder = copy.deepcopy(network.encoder)
        codes = np.concatenate([codes for one in heard for codes in one.codes[:: len(one.codes)]])
        self.variance = torch.from_numpy(codes).float().var(dim=0)[:, None]

    def errors(self, encoder: nn.Module, heard: Sequence[Heard]) -> tuple[Tensor, Tensor]:
        """Compute the errors of a batch: of codes of streams, and of codes of files."""
        windows, codes = of_streams(heard, N_BATCH, self.network.freq)
        ours = encoder(self._normalised(windows))[..., -codes.shape[-1] :]
        crops = self._normalised(of_files(heard, N_BATCH // 4))
        with torch.no_grad():
            of_file = self.encoder(crops)
        return self._error(ours, codes), self._error(encoder(crops), of_file)

    def _error(self, ours: Tensor, codes: Tensor) -> Tensor:
        return ((ours.float() - codes.float()).square() / self.variance).mean()

    def _normalised(self, x: Tensor) -> Tensor:
        network = self.network
        return (x - network.features_mean[:, None]) / network.features_std[:, None]


def teach(network: AutoVC, train: Sequence[Heard], val: Sequence[Heard], n_steps: int) -> None:
    """Train the encoder; at the end it has its averaged weights."""
    encoder, teacher = network.encoder, Teacher(network, train)
    encoder.requires_grad_(True)  # its BatchNorm stays in eval mode
    average = torch.optim.swa_utils.AveragedModel(
        encoder, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(EMA_DECAY)
    )
    optimizer = torch.optim.Adam(encoder.parameters(), LR, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LR, n_steps, pct_start=WARMUP_SHARE, final_div_factor=1 / LAST_LR
    )
    in_bfloat16 = best_precision("cpu") == "bf16-mixed"
    for step in range(n_steps + 1):
        if step % LOG_EVERY == 0 or step == n_steps:
            random_state = random.getstate()
            random.seed(0)
            with torch.no_grad():
                errors = [torch.stack(teacher.errors(average, val)) for _ in range(20)]
            random.setstate(random_state)
            means = torch.stack(errors).mean(dim=0).tolist()
            logging.info("step %d: error of streams %.3f, of files %.3f", step, *means)
        if step == n_steps:
            break
        with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
            of_streams, of_files = teacher.errors(encoder, train)
            loss = of_streams + of_files
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(encoder)
    encoder.load_state_dict(average.module.state_dict())


def main(path: Path, manifest: Path, output: Path, n_steps: int) -> None:
    """Read, hear, teach and write."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    random.seed(0)
    converter = VoiceConverter.from_checkpoint(path)
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    random.shuffle(rows)
    train, val = (
        hear(converter, [manifest.parent / row["path"] for row in rows if row["split"] == split])
        for split in ("train", "val")
    )
    logging.info("%d and %d recordings", len(train), len(val))
    teach(converter.autovc, train, val, n_steps)
    network, card = checkpoints.read_autovc(path)
    network.encoder.load_state_dict(converter.autovc.encoder.state_dict())
    checkpoints.save(output, network.state_dict(), card)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=3000)
    arguments = parser.parse_args()
    main(arguments.path, arguments.manifest, arguments.output, arguments.steps)
