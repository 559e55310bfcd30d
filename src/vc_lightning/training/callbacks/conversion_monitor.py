"""Monitors AutoVC's conversions during training; warnings name the setting to change."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pytorch_lightning import LightningModule, Trainer

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError, require_at_least, require_within
from vc_lightning.models import checkpoints
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.network import Network
from vc_lightning.models.speaker_encoder import similarity
from vc_lightning.models.vocoders.base import Vocoder
from vc_lightning.training.callbacks.regular import RegularCallback
from vc_lightning.training.conversion import convert
from vc_lightning.training.lightning_types import require_instance
from vc_lightning.training.tasks.autovc import AutoVCModule

log = logging.getLogger(__name__)


class ConversionMonitor(RegularCallback):
    """Converts held-out recordings, and compares the voices with targets and sources.

    Logs `val/similarity_to_target` and `val/similarity_to_source`, cosines between the speaker
    embeddings of the conversions and of their targets and sources. Warns once of each: collapsed
    codes, a similarity that no longer rises, and leakage of the source voice.

    Args:
        every_n_steps: Optimizer steps between two measurements.
        n_speakers: Number of recordings, each converted into the voice of the next one.
        max_frames: Longer recordings are cut to this number of frames.
        min_codes_std: Codes with a smaller standard deviation count as collapsed.
        leak_after_steps: Step from which the similarity to the source should be below that to the
            target.
        patience: Number of measurements without a rise, after which it warns.
        min_rise: Smallest increase of the similarity to the target that counts as a rise.
        vocoder: Makes a vocoder from a mel-spectrogram.
        speaker_encoder: Weight file of the speaker encoder; None is the shipped one.
    """

    group = "callbacks.conversion_monitor"

    def __init__(
        self,
        every_n_steps: int,
        n_speakers: int,
        max_frames: int,
        min_codes_std: float,
        leak_after_steps: int,
        patience: int,
        min_rise: float,
        vocoder: Callable[..., Vocoder],
        speaker_encoder: Path | str | None,
    ):
        super().__init__(every_n_steps, n_speakers, max_frames)
        require_at_least(1, self.group, patience=patience)
        require_at_least(0, self.group, leak_after_steps=leak_after_steps)
        require_within(0, 1, self.group, min_codes_std=min_codes_std, min_rise=min_rise)
        self.min_codes_std = min_codes_std
        self.leak_after_steps = leak_after_steps
        self.patience = patience
        self.min_rise = min_rise
        self.make_vocoder = vocoder
        self.encoder_path = speaker_encoder or resources.SPEAKER_ENCODER
        self.best, self.best_step, self.since_best = -1.0, 0, 0
        self.warned: set[str] = set()

    def state_dict(self) -> dict:
        """Return what a resumed training run continues from."""
        return {
            "best": self.best,
            "best_step": self.best_step,
            "since_best": self.since_best,
            "warned": sorted(self.warned),
        }

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore the state of `state_dict`."""
        self.best, self.best_step = state_dict["best"], state_dict["best_step"]
        self.since_best, self.warned = state_dict["since_best"], set(state_dict["warned"])

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the recordings, make the vocoder, and load the speaker encoder."""
        super().on_fit_start(trainer, pl_module)
        self.vocoder = self.make_vocoder(mel=require_instance(pl_module, AutoVCModule).mel)
        self.encoder = checkpoints.load_speaker_encoder(self.encoder_path)

    def act(self, trainer: Trainer, network: Network) -> None:
        """Measure, log and check."""
        step = trainer.global_step
        self.check_codes(step, float(trainer.callback_metrics["train/codes_std"]))
        if len(self.examples) > 1:  # conversion needs another voice
            mel = require_instance(trainer.lightning_module, AutoVCModule).mel
            measured = self.similarities(require_instance(network, AutoVC), mel)
            names = ("val/similarity_to_target", "val/similarity_to_source")
            for logger in trainer.loggers:
                logger.log_metrics(dict(zip(names, measured, strict=True)), step)
            self.check_similarity(step, *measured)

    def similarities(self, network: AutoVC, mel: MelSpectrogram) -> tuple[float, float]:
        """Convert with a network; return mean similarities to targets and to sources."""
        found = []
        for source, target in self.pairs():
            converted = convert(network, mel, source, target, self.max_frames)
            wav = self.vocoder.generate(converted.float().clamp(0, 1).cpu())[0].numpy()
            try:
                voice = self.encoder.embed_recording(wav, mel.sample_rate, mel.level_dbfs)
            except InputError:  # no speech, as from an untrained network
                voice = np.zeros_like(target.embedding.numpy())
            others = [example.embedding.numpy() for example in (target, source)]
            found.append([similarity(voice, other) if voice.any() else 0 for other in others])
        to_target, to_source = np.mean(found, axis=0).tolist()
        return to_target, to_source

    def check_codes(self, step: int, std: float) -> None:
        """Warn if the codes have collapsed."""
        if std < self.min_codes_std:
            self.warn(
                "collapse",
                f"step {step}: the codes have collapsed (train/codes_std {std:.1e}) and carry no "
                "words any more; set task.content_per_std=true or lower task.content_weight, and "
                "start again",
            )

    def check_similarity(self, step: int, to_target: float, to_source: float) -> None:
        """Warn if the source voice leaks, and if the similarity to the target no longer rises."""
        if step >= self.leak_after_steps and to_source > to_target:
            self.warn(
                "leak",
                f"step {step}: the source voice leaks (similarity of conversions to the source "
                f"{to_source:.2f}, to the target {to_target:.2f}); set data.vtlp_factors="
                "[0.8,0.9,1.1,1.25] and data.vtlp_probability=1, then a narrower bottleneck: a "
                "smaller model.dim_neck or a larger model.freq, trained from scratch",
            )
        if to_target > self.best + self.min_rise:
            self.best, self.best_step, self.since_best = to_target, step, 0
            return
        self.since_best += 1
        if self.since_best == self.patience:
            self.warn(
                "plateau",
                f"step {step}: the similarity to the target has not risen since step "
                f"{self.best_step} ({self.best:.2f}); more speakers help most, then "
                "data.sampling=speaker; while val/loss falls, words still get clearer",
            )

    def warn(self, problem: str, sentence: str) -> None:
        """Log a warning, once for each problem."""
        if problem not in self.warned:
            self.warned.add(problem)
            log.warning("%s (docs/troubleshooting.md)", sentence)
