"""Teach the recogniser to hear speech that goes on, and write checkpoints/live_adapter.safetensors.

    python scripts/weights/make_live_adapter.py MANIFEST.tsv [--seconds 2700]

The manifest has the columns path and split. Each recording of the split train is heard as a whole
by the recogniser, and cut at 32 places, as a stream hears it there (`RunningRecogniser`), by the
recogniser with the changes (`LiveAdapter`). They learn that the codes of the frames that a stream
decodes next, and of their neighbours, are those of the whole recording, and the features, too. The
errors of recordings of the split val are printed.
"""

import argparse
import copy
import csv
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vc_lightning import VoiceConverter
from vc_lightning.audio import voice_activity
from vc_lightning.common import resources
from vc_lightning.models import checkpoints
from vc_lightning.models.files.formats import Card
from vc_lightning.models.live_adapter import Change, LiveAdapter
from vc_lightning.models.recogniser import MAX_FRAMES, Recogniser, TransformerLayer, scaled
from vc_lightning.models.running_recogniser import (
    FRAME_SAMPLES,
    MELS_PER_FRAME,
    N_ACTIVE,
    N_LEAD,
    N_SILENCE,
)

RANK = 2
LR, WARMUP_STEPS, LAST_LR = 6e-4, 20, 0.02  # the last one as a share of the first
EMA_DECAY = 0.98
FEATURE_WEIGHT = 0.25
N_BATCH = 4  # recordings of a step
N_CUTS = 32  # of a recording
MAX_SECONDS = 16
MIN_SECONDS = 1.5
N_PAST = 200  # features before the newest ones that these attend to: 4 s
N_AHEAD = 6  # frames of the mel that a stream knows after a step, with 64 ms of look-ahead
DELAY = 1792  # samples that it knows after a step
N_WINDOW = 48  # newest frames of the mel that the encoder reads
FREQ = 2  # frames of the mel per code
# Of the last codes of a window; the stream decodes the seventh to fifth last ones next.
CODE_WEIGHTS = torch.tensor([0.25, 0.25, 0.5, 0.5, 1, 1, 1, 0.25, 0.25, 0.25])
DECODED_NEXT = slice(4, 7)
N_EDGE = 3  # newest features, which are not compared
N_VAL = 24  # recordings
PRINT_SECONDS = 240


class Lesson:
    """One recording, heard as a whole and at some places where it is cut.

    Args:
        student: The recogniser with the changes.
        teacher: The one without.
        converter: Its content encoder reads what they hear.
        wav: Samples (n,) at 16 kHz.
        steps: Ends of the steps of a stream (B,), in frames of the mel, even numbers.
        position: Where in the student's positions the recording begins.
    """

    def __init__(
        self,
        student: "Student",
        teacher: Recogniser,
        converter: VoiceConverter,
        wav: np.ndarray,
        steps: np.ndarray,
        position: int,
    ):
        self.student, self.network, self.hop = student, converter.autovc, converter.mel.hop_length
        self.rate = self.hop / FRAME_SAMPLES  # features per frame of the mel
        with torch.no_grad():
            self.logarithm = teacher.logarithm(torch.from_numpy(wav))
            log_mel = scaled(self.logarithm)
            self.target = teacher(log_mel[None])[0]
            self.position = min(position, MAX_FRAMES - len(self.target) - N_SILENCE)
            self.known, self.whole = student.hear_whole(log_mel, self.position)
            frames = np.arange(len(wav) // self.hop // FREQ * FREQ)
            self.codes = self._encode(self._at(self.target[None], frames[None]))[0]
        self.wav, self.steps = wav, steps
        self.stops = (steps * self.hop + DELAY) // FRAME_SAMPLES + 1  # of the newest features
        self.firsts = self.stops - N_ACTIVE

    def losses(self) -> tuple[Tensor, Tensor, Tensor]:
        """Compare codes and features with those of the whole recording.

        Returns:
            The loss; and errors of the codes that are decoded next, and of the features, as shares
            of their variances.
        """
        active = self.student.hear_newest(self._newest(), self.known, self.firsts, self.position)
        expected = torch.stack([self.target[a : a + N_ACTIVE] for a in self.firsts])
        difference = (active - expected)[:, :-N_EDGE]
        of_features = difference.square().mean() / self.target.var(dim=0).mean()
        codes = self._encode(self._windows(active))[..., -len(CODE_WEIGHTS) :]
        stops = (self.steps + N_AHEAD) // FREQ
        wanted = [self.codes[:, stop - len(CODE_WEIGHTS) : stop] for stop in stops]
        of_codes, of_inputs = self._code_errors(codes, torch.stack(wanted))
        weighted = (of_codes + of_inputs) / 2 * CODE_WEIGHTS / CODE_WEIGHTS.sum()
        loss = weighted.sum() + FEATURE_WEIGHT * of_features
        return loss, of_codes[DECODED_NEXT].mean(), of_features

    def _newest(self) -> Tensor:
        """Compute the input of the layers at each step (B, N_ACTIVE + N_SILENCE, dim)."""
        one, inputs = self.student.recogniser, []
        for step, first in zip(self.steps, self.firsts, strict=True):
            newest = self.wav[(first - N_LEAD) * FRAME_SAMPLES : step * self.hop + DELAY]
            n_samples = (N_LEAD + N_ACTIVE + N_SILENCE) * FRAME_SAMPLES
            logarithm = one.logarithm(
                torch.from_numpy(np.pad(newest, (0, n_samples - len(newest))))
            )
            past = slice(max(0, first - N_PAST) * MELS_PER_FRAME, first * MELS_PER_FRAME)
            loudest = torch.maximum(logarithm.max(), self.logarithm[:, past].max())
            inputs.append(one.convolved(scaled(logarithm, loudest)[None])[:, N_LEAD:].float())
        return torch.cat(inputs)

    def _windows(self, active: Tensor) -> Tensor:
        """Return what the encoder reads at each step (B, N_WINDOW, dim)."""
        heard = self.whole.expand(len(active), -1, -1)
        rows = torch.from_numpy(self.firsts[:, None] + np.arange(N_ACTIVE))
        heard = heard.scatter(1, rows[..., None].expand(-1, -1, heard.shape[-1]), active)
        frames = self.steps[:, None] + np.arange(N_AHEAD - N_WINDOW, N_AHEAD)
        return self._at(heard, frames, self.stops)

    def _at(self, heard: Tensor, frames: np.ndarray, stops: np.ndarray | None = None) -> Tensor:
        """Interpolate features (B, N, dim) at frames of the mel (B, T), see `interpolate`."""
        last = (heard.shape[1] if stops is None else stops[:, None]) - 1
        positions = np.clip(frames * self.rate, 0, last)
        before = np.floor(positions).astype(int)
        after = np.minimum(before + 1, last)
        share = torch.from_numpy(positions - before).float()[..., None]
        rows = torch.arange(len(heard))[:, None]
        return torch.lerp(heard[rows, before], heard[rows, after], share)

    def _encode(self, features: Tensor) -> Tensor:
        return self.network.encode(features.transpose(1, 2), None)

    def _code_errors(self, codes: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
        """Return the error at each code, and that of what the decoder makes of it first."""
        errors = []
        reads = self.network.decoder.lstm1.get_parameter("weight_ih_l0")[:, : codes.shape[1]]
        for weights in (torch.eye(codes.shape[1]), reads):
            given, wanted = weights @ codes, weights @ expected
            centred = wanted - wanted.mean(dim=(0, 2), keepdim=True)
            errors.append((given - wanted).square().mean(dim=(0, 1)) / centred.square().mean())
        return errors[0], errors[1]


class Student(nn.Module):
    """The recogniser with the changes, which are not merged into its weights.

    Args:
        recogniser: The recogniser.
        adapter: The changes.
    """

    def __init__(self, recogniser: Recogniser, adapter: LiveAdapter):
        super().__init__()
        self.recogniser = recogniser
        self.adapter = adapter
        adapter.use_normalisations_in(recogniser)
        for own, layer in adapter.beside(recogniser):
            for name, change in own.changes():
                setattr(layer, name, Changed(getattr(layer, name), change))

    def hear_whole(self, log_mel: Tensor, position: int) -> tuple[list[Tensor], Tensor]:
        """Hear a log-mel (n_mels, M) -> keys and values of each layer, and features (T, dim)."""
        one, known = self.recogniser, []
        x = one.convolved(log_mel[None])
        x = x + one.positions[position : position + x.shape[1]]
        for layer in one.layers:
            assert isinstance(layer, TransformerLayer)
            x, of_layer = layer.extend(x, None)
            known.append(of_layer)
        return known, one.norm(x)[0]

    def hear_newest(
        self, x: Tensor, known: list[Tensor], firsts: np.ndarray, position: int
    ) -> Tensor:
        """Hear the newest frames of several steps, which attend to the frames before them.

        Args:
            x: Input of the layers (B, N_ACTIVE + N_SILENCE, dim), without positions.
            known: Keys and values of each layer over the recording (2, 1, n_heads, T, dim/n_heads).
            firsts: The first of the newest frames (B,).
            position: That of the recording's first frame.

        Returns:
            (B, N_ACTIVE, dim).
        """
        one, n_new = self.recogniser, x.shape[1]
        rows = torch.from_numpy(position + firsts[:, None] + np.arange(n_new))
        x = x + one.positions[rows]
        ages = torch.from_numpy(firsts)[:, None] - torch.arange(known[0].shape[3])
        is_past = F.pad((ages > 0) & (ages <= N_PAST), (0, n_new), value=True)
        mask = known[0].new_zeros(is_past.shape).masked_fill(~is_past, -torch.inf)[:, None, None]
        for layer, past in zip(one.layers, known, strict=True):
            assert isinstance(layer, TransformerLayer)
            x = layer.extend(x, past.expand(-1, len(x), -1, -1, -1), mask)[0]
        return one.norm(x)[:, :N_ACTIVE]


class Changed(nn.Module):
    """A product of the recogniser with its change.

    Args:
        product: The product.
        change: Its change.
    """

    def __init__(self, product: nn.Linear, change: Change):
        super().__init__()
        self.product, self.change = product, change

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim_in) -> (..., dim_out)."""
        made = self.product(x)
        return made + self.change.of(x.float()).to(made.dtype)


def initial(recogniser: Recogniser) -> LiveAdapter:
    """Make an adapter that changes nothing."""
    sizes = {name: recogniser.arguments[name] for name in ("dim", "n_layers")}
    adapter = LiveAdapter(**sizes, rank=RANK)
    adapter.norm = copy.deepcopy(recogniser.norm)
    for own, layer in adapter.beside(recogniser):
        own.attention_norm = copy.deepcopy(layer.attention_norm)
        own.ffn_norm = copy.deepcopy(layer.ffn_norm)
    return adapter.requires_grad_(True)


def samples(converter: VoiceConverter, path: Path) -> np.ndarray:
    """Read the start of a recording (n,), as conversions hear it."""
    wav, level = converter.analyzer.leveled(path)
    wav = wav[: MAX_SECONDS * converter.sample_rate]
    return converter.mel.filtered(voice_activity.amplify(wav, level.gain_db))


def steps_of(wav: np.ndarray, hop: int, rng: random.Random) -> np.ndarray:
    """Draw ends of steps of a stream, in frames of the mel."""
    last = (len(wav) - DELAY) // hop // FREQ
    return np.array(sorted({FREQ * rng.randrange(N_WINDOW // FREQ, last) for _ in range(N_CUTS)}))


def endless(paths: list[Path], rng: random.Random) -> Iterator[Path]:
    """Yield paths in random order, again and again."""
    while True:
        yield from rng.sample(paths, len(paths))


class Teaching:
    """The training of the changes.

    Args:
        converter: Its content encoder reads what is heard.

    Attributes:
        average: The averaged changes.
    """

    def __init__(self, converter: VoiceConverter):
        self.converter = converter
        self.teacher = checkpoints.load_fast_recogniser()
        self.adapter = initial(self.teacher)
        self.average = AveragedModel(self.adapter, multi_avg_fn=get_ema_multi_avg_fn(EMA_DECAY))

    def run(self, paths: list[Path], seconds: float) -> Iterator[int]:
        """Train for some seconds; yield the number of steps every `PRINT_SECONDS`, and at last."""
        rng, started = random.Random(0), time.monotonic()
        n_lessons, n_steps, n_printed = 0, 0, 1
        student = Student(checkpoints.load_fast_recogniser(), self.adapter)
        optimizer = torch.optim.AdamW(self.adapter.parameters(), betas=(0.9, 0.99), weight_decay=0)
        for path in endless(paths, rng):
            share = (time.monotonic() - started) / seconds
            if share >= 1:
                break
            lesson = self.lesson(student, path, rng, rng.choice([0, rng.randrange(MAX_FRAMES)]))
            if lesson is None:
                continue
            lesson.losses()[0].backward()
            n_lessons += 1
            if n_lessons % N_BATCH:
                continue
            warmup = min(1.0, (n_steps + 1) / WARMUP_STEPS)
            cosine = max(LAST_LR, (1 + math.cos(math.pi * share)) / 2)
            optimizer.param_groups[0]["lr"] = LR * warmup * cosine
            nn.utils.clip_grad_norm_(self.adapter.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            self.average.update_parameters(self.adapter)
            n_steps += 1
            if time.monotonic() - started > n_printed * PRINT_SECONDS:
                n_printed += 1
                yield n_steps
        yield n_steps

    @torch.no_grad()
    def errors(self, paths: list[Path]) -> str:
        """Describe the mean errors of the averaged changes over `N_VAL` recordings."""
        averaged = copy.deepcopy(self.average.module)
        assert isinstance(averaged, LiveAdapter)
        student = Student(checkpoints.load_fast_recogniser(), averaged)
        rng = random.Random(0)
        lessons = [self.lesson(student, path, rng, 0) for path in rng.sample(paths, N_VAL)]
        found = [lesson.losses()[1:] for lesson in lessons if lesson is not None]
        codes, features = torch.tensor(found).mean(dim=0).tolist()
        return f"error of codes {codes:.4f}, of features {features:.4f}"

    def lesson(
        self, student: Student, path: Path, rng: random.Random, position: int
    ) -> Lesson | None:
        """Prepare a recording; None if it is too short."""
        wav = samples(self.converter, path)
        if len(wav) < MIN_SECONDS * self.converter.sample_rate:
            return None
        steps = steps_of(wav, self.converter.mel.hop_length, rng)
        return Lesson(student, self.teacher, self.converter, wav, steps, position)


def main() -> None:
    """Teach, print errors of the validation recordings, and write the averaged changes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--seconds", type=float, default=2700)
    arguments = parser.parse_args()
    with arguments.manifest.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    paths, val_paths = (
        [arguments.manifest.parent / row["path"] for row in rows if row["split"] == split]
        for split in ("train", "val")
    )
    torch.manual_seed(0)
    teaching = Teaching(VoiceConverter.from_pretrained())
    print("before:", teaching.errors(val_paths), flush=True)
    for n_steps in teaching.run(paths, arguments.seconds):
        print(f"step {n_steps}:", teaching.errors(val_paths), flush=True)
    card = Card(
        kind=LiveAdapter.kind,
        network=teaching.adapter.arguments,
        mel={},
        weights="average",
        step=n_steps,
        trained_on="see checkpoints/README.md",
        licence="CC BY-SA 4.0",
    )
    state = teaching.average.module.state_dict()
    checkpoints.save(resources.LIVE_ADAPTER, state, card, torch.float16)


if __name__ == "__main__":
    main()
