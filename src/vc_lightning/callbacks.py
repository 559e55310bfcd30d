"""What happens beside the training: averaged weights, weight files, pictures and sound."""

import copy
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from shlex import quote

import numpy as np
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from vc_lightning import checkpoints
from vc_lightning.audio import atomic_path
from vc_lightning.autovc import AutoVC
from vc_lightning.data import Batch, VoiceDataModule
from vc_lightning.errors import InputError, require_at_least, require_within
from vc_lightning.features import read_embedding, read_mel
from vc_lightning.lit_autovc import LitAutoVC
from vc_lightning.voice_converter import Vocoder

log = logging.getLogger(__name__)

MAX_PROJECTED = 2_000  # embeddings that TensorBoard's projector shows smoothly
COLOURS = np.array(  # dark to bright, perceptually even enough to read a spectrogram by
    [[0, 0, 4], [65, 15, 117], [158, 47, 127], [241, 96, 93], [254, 183, 122], [252, 253, 191]]
)


def ema_decay(step: int, limit: float) -> float:
    """Decay of the average at `step` ≥ 0: min(limit, (1 + step) / (10 + step)).

    The warm-up lets the first weights be forgotten: at a constant 0.9999 they would still count
    82 % after 2 000 steps.
    """
    return min(limit, (1 + step) / (10 + step))


class EMA(Callback):
    """Keeps a second network whose weights are the moving average of the trained one's.

    averaged = decay · averaged + (1 − decay) · current after every optimizer step, BatchNorm's
    statistics included. Validation measures both: `val/…` is the average, `val_original/…` the
    network as it stands.

    Args:
        decay: upper limit of the decay, see `ema_decay`.
    """

    def __init__(self, decay: float):
        require_within(0, 1, "callbacks.ema", decay=decay)
        self.decay = decay
        self.network: AutoVC | None = None
        self.steps = 0

    def setup(self, trainer: Trainer, pl_module: LitAutoVC, stage: str) -> None:
        if self.network is None:
            self.network = copy.deepcopy(pl_module.network).eval().requires_grad_(False)

    def on_fit_start(self, trainer: Trainer, pl_module: LitAutoVC) -> None:
        self.network.to(pl_module.device)

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LitAutoVC, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        if trainer.global_step == self.steps:
            return  # gradients are being accumulated: no optimizer step was taken
        weight = 1 - ema_decay(self.steps, self.decay)
        self.steps = trainer.global_step
        averaged, current = _floats(self.network), _floats(pl_module.network)
        torch._foreach_lerp_(averaged, current, weight)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LitAutoVC, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        with trainer.precision_plugin.forward_context():
            pl_module.log_losses("val", pl_module.losses(self.network, batch), batch)

    def state_dict(self) -> dict:
        return {"average": self.network.state_dict(), "steps": self.steps}

    def load_state_dict(self, state_dict: dict) -> None:
        self.network.load_state_dict(state_dict["average"])
        self.steps = state_dict["steps"]


def _floats(network: AutoVC) -> list[Tensor]:
    """Parameters and the buffers that are not counters."""
    buffers = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
    return [*network.parameters(), *buffers]


class WeightFiles(Callback):
    """Writes the weights every `every_n_steps` optimizer steps and at the end.

    `<name>_step<n>_original.safetensors` holds the network at that step,
    `<name>_step<n>_average.safetensors` its moving average; `last.ckpt` resumes the training.

    Args:
        dir: folder of the files; `name`: the beginning of their names.
    """

    def __init__(self, dir: str, name: str, every_n_steps: int):
        require_at_least(1, "checkpoint", every_n_steps=every_n_steps)
        self.dir = Path(dir)
        self.name = name
        self.every_n_steps = every_n_steps
        self.saved_step = 0

    @property
    def last(self) -> Path:
        """File to resume from."""
        return self.dir / "last.ckpt"

    def path(self, step: int, weights: str) -> Path:
        """File of the "average" or "original" weights of a step."""
        return self.dir / f"{self.name}_step{step}_{weights}.safetensors"

    def on_fit_start(self, trainer: Trainer, pl_module: LitAutoVC) -> None:
        """Finds out now, not after hours, that the folder can be written."""
        try:
            self.dir.mkdir(parents=True, exist_ok=True)
            with atomic_path(self.path(0, "average")):
                pass
            self.path(0, "average").unlink()
        except OSError as error:
            raise InputError(
                f"checkpoint.dir={self.dir}, checkpoint.name={self.name}: cannot be written "
                f"({error.strerror}); name another"
            ) from error

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LitAutoVC, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps == 0:
            self.save(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LitAutoVC) -> None:
        self.save(trainer, pl_module)

    def on_exception(
        self, trainer: Trainer, pl_module: LitAutoVC, exception: BaseException
    ) -> None:
        if isinstance(exception, KeyboardInterrupt) and trainer.global_step > 0:
            self.save(trainer, pl_module)
            log.warning("interrupted; go on with ckpt_path=%s", quote(str(self.last)))

    def save(self, trainer: Trainer, pl_module: LitAutoVC) -> None:
        """Writes both weight sets and `last.ckpt`, each by replacing a finished file."""
        step = trainer.global_step
        if step == self.saved_step:
            return
        self.saved_step = step
        if trainer.is_global_zero:
            networks = {"original": pl_module.network, "average": averaged_network(trainer)}
            for weights, network in networks.items():
                card = pl_module.current_card(weights)
                checkpoints.save(self.path(step, weights), network.state_dict(), card)
        unfinished = self.dir / ".last.ckpt"  # save_checkpoint runs on every rank
        trainer.save_checkpoint(unfinished, weights_only=False)
        if trainer.is_global_zero:
            unfinished.replace(self.last)

    def state_dict(self) -> dict:
        return {"saved_step": self.saved_step}

    def load_state_dict(self, state_dict: dict) -> None:
        self.saved_step = state_dict["saved_step"]


def averaged_network(trainer: Trainer) -> AutoVC:
    """The EMA callback's network, or the trained one where there is no such callback."""
    averages = [callback.network for callback in trainer.callbacks if isinstance(callback, EMA)]
    return averages[0] if averages else trainer.lightning_module.network


class Throughput(Callback):
    """Logs optimizer steps and seconds of speech per second, and stops when the loss is lost."""

    def on_train_start(self, trainer: Trainer, pl_module: LitAutoVC) -> None:
        self._restart(trainer)

    def _restart(self, trainer: Trainer) -> None:
        self.since = time.perf_counter()
        self.first_step = trainer.global_step
        self.n_frames = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LitAutoVC, outputs: dict, batch: Batch, batch_idx: int
    ) -> None:
        self.n_frames += batch.mel.shape[0] * batch.mel.shape[-1]
        if trainer.global_step - self.first_step < trainer.log_every_n_steps:
            return
        loss = outputs["loss"].item()
        if not math.isfinite(loss):
            raise InputError(
                f"the loss is {loss} at step {trainer.global_step}; "
                "lower optimizer.lr or set trainer.precision=32"
            )
        seconds = time.perf_counter() - self.since
        mel = pl_module.card.mel
        speech = self.n_frames * mel["hop_length"] / mel["sample_rate"]
        steps = trainer.global_step - self.first_step
        pl_module.log("train/steps_per_second", steps / seconds)
        pl_module.log("train/speech_seconds_per_second", speech / seconds)
        self._restart(trainer)


class StepBar(Callback):
    """A progress bar over the whole training: steps, time left, loss and learning rate."""

    def __init__(self):
        self.bar: tqdm | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LitAutoVC) -> None:
        total = trainer.estimated_stepping_batches
        self.bar = tqdm(
            total=int(total) if math.isfinite(total) else None,
            initial=trainer.global_step,
            desc="training",
            unit="step",
            dynamic_ncols=True,
            disable=not trainer.is_global_zero,
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LitAutoVC, outputs: dict, batch: Batch, batch_idx: int
    ) -> None:
        if trainer.global_step % trainer.log_every_n_steps == 0:
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            self.bar.set_postfix(
                loss=f"{outputs['loss'].item():.4f}", lr=f"{lr:.2e}", refresh=False
            )
        self.bar.update(trainer.global_step - self.bar.n)

    def teardown(self, trainer: Trainer, pl_module: LitAutoVC, stage: str) -> None:
        if self.bar is not None:
            self.bar.close()


class Samples(Callback):
    """Pictures and sound of conversions between held-out speakers, for TensorBoard.

    Args:
        every_n_steps: how often; `n_speakers`: between how many speakers, each into the next.
        vocoder: from mel settings to what makes them audible.
        max_frames: cut of the recordings.
    """

    def __init__(
        self, every_n_steps: int, n_speakers: int, max_frames: int, vocoder: Callable[..., Vocoder]
    ):
        require_at_least(
            1,
            "callbacks.samples",
            every_n_steps=every_n_steps,
            n_speakers=n_speakers,
            max_frames=max_frames,
        )
        self.every_n_steps = every_n_steps
        self.n_speakers = n_speakers
        self.max_frames = max_frames
        self.make_vocoder = vocoder

    def on_fit_start(self, trainer: Trainer, pl_module: LitAutoVC) -> None:
        data: VoiceDataModule = trainer.datamodule
        by_speaker = {u.speaker: u for u in reversed(data.val or data.train)}
        self.chosen = [by_speaker[speaker] for speaker in sorted(by_speaker)][: self.n_speakers]
        self.vocoder = self.make_vocoder(mel=data.features.mel)
        if writer := _writer(trainer):
            shown = (data.val + data.train)[:MAX_PROJECTED]
            embeddings = torch.stack([read_embedding(u.entry) for u in shown])
            writer.add_embedding(embeddings, [u.speaker for u in shown], tag="speakers")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LitAutoVC, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every_n_steps == 0:
            self.write(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LitAutoVC) -> None:
        if trainer.global_step % self.every_n_steps != 0:
            self.write(trainer)

    @torch.no_grad()
    def write(self, trainer: Trainer) -> None:
        """Converts every chosen recording into the next one's voice."""
        writer = _writer(trainer)
        if writer is None:
            return
        network = averaged_network(trainer)
        device = next(network.parameters()).device
        for source, target in zip(self.chosen, self.chosen[1:] + self.chosen[:1], strict=True):
            mel = read_mel(source.entry, 0, min(source.n_frames, self.max_frames))[None].to(device)
            voices = [read_embedding(u.entry)[None].to(device) for u in (source, target)]
            was_training = network.training
            network.eval()
            mels = {
                "source": mel,
                "reconstruction": network(mel, voices[0], voices[0])[1],
                "conversion": network(mel, voices[0], voices[1])[1],
            }
            network.train(was_training)
            title = f"{source.speaker}_to_{target.speaker}"
            step = trainer.global_step
            writer.add_image(f"mel/{title}", picture(list(mels.values())), step, dataformats="HWC")
            for name, value in mels.items():
                wav = self.vocoder.generate(value.float().clamp(0, 1).cpu())[0]
                sample_rate = trainer.datamodule.features.mel.sample_rate
                writer.add_audio(f"{title}/{name}", wav.clamp(-1, 1), step, sample_rate)


def picture(mels: list[Tensor]) -> np.ndarray:
    """Mels (1, n_mels, T) in 0…1, one above the other, as an RGB image (height, width, 3)."""
    gap = np.ones((4, mels[0].shape[-1]))
    rows = [part for mel in mels for part in (mel[0].flip(0).float().cpu().numpy(), gap)]
    values = np.concatenate(rows[:-1]).clip(0, 1).repeat(2, axis=0).repeat(2, axis=1)
    positions = np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(values, positions, channel) for channel in COLOURS.T]
    return np.stack(channels, axis=-1).astype(np.uint8)


def _writer(trainer: Trainer) -> SummaryWriter | None:
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
            return logger.experiment
    return None
