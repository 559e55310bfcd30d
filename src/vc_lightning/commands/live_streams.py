"""Live streams with the voices and lengths of the configuration."""

import numpy as np
import torch
from omegaconf import DictConfig

from vc_lightning.commands import builders, paths
from vc_lightning.commands.convert import target_of
from vc_lightning.common.errors import InputError
from vc_lightning.conversion import voice_library
from vc_lightning.conversion.streaming import VoiceStream
from vc_lightning.conversion.voices.voice import Voice

NO_VOICE = "there is no target voice: give target=FILE, or the name of a learned voice"


class Streams:
    """Opens streams with the converter and the voices of a configuration.

    Args:
        cfg: The configuration `conf/live.yaml`.

    Attributes:
        converter: The converter.
        target: The target voice; None if `target` is not set.
        speaker: Voice of the person who speaks; None if `speaker` is not set.

    Raises:
        InputError: A value is wrong, or a voice cannot be loaded.
    """

    def __init__(self, cfg: DictConfig):
        torch.set_num_threads(1)  # faster for small tensors; every stream has its own thread
        self._cfg = cfg
        self._folder = paths.single_path(cfg.voices.dir, "voices.dir")
        self.converter = builders.build_converter(cfg)
        self.target = self._target_voice() if cfg.target else None
        self.speaker = self.learned_voice(str(cfg.speaker)) if cfg.speaker else None

    def open(
        self,
        rate: int | None = None,
        block_seconds: float | None = None,
        voice: Voice | None = None,
        speaker: Voice | None = None,
    ) -> VoiceStream:
        """Open a stream.

        Args:
            rate: Sample rate in Hz of input and output; None for that of the converter.
            block_seconds: Length of a step; None for that of the configuration.
            voice: The target voice; None for that of the configuration.
            speaker: Voice of the person who speaks; None for that of the configuration.

        Raises:
            InputError: A length or the rate is out of range, or there is no target voice.
        """
        target = self.target if voice is None else voice
        if target is None:
            raise InputError(NO_VOICE)
        return VoiceStream(
            self.converter.networks,
            target,
            guidance=self.converter.guidance,
            sample_rate=rate,
            block_seconds=self._cfg.block_seconds if block_seconds is None else block_seconds,
            lookahead_seconds=self._cfg.lookahead_seconds,
            context_seconds=self._cfg.context_seconds,
            source=self.speaker if speaker is None else speaker,
            seed=self._cfg.seed,
        )

    def learned_voice(self, name: str) -> Voice:
        """Load a learned voice.

        Args:
            name: Name of the voice.

        Raises:
            InputError: There is no such voice, or it belongs to another speaker encoder.
        """
        learned = voice_library.load(self._folder, name)
        return voice_library.for_encoder(learned, self.converter.encoder_identity)

    def warm_up(self) -> None:
        """Convert a second of noise, because the first steps of a process are slow."""
        if self.target is not None:
            stream = self.open()
            noise = np.random.default_rng(0).normal(0, 0.01, stream.sample_rate)
            stream.push(noise.astype(np.float32))

    def _target_voice(self) -> Voice:
        target = target_of(self._cfg.target, self._folder)
        return (
            self.learned_voice(target) if isinstance(target, str) else self.converter.voice(target)
        )
