"""Vocoders, mel to sound, as the group `vocoder` of the configuration names them."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vc_lightning.audio.mel import MelSpectrogram, require_same_settings
from vc_lightning.audio.spill_buffer import SpillBuffer
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError, require_within
from vc_lightning.models import checkpoints
from vc_lightning.models.vocoders.griffin_lim import GriffinLim

log = logging.getLogger(__name__)

Progress = Callable[[float], None]  # called with the share of the work that is done, up to 1


def no_progress(share: float) -> None:
    """Progress that nobody wants to see."""


class Vocoder(Protocol):
    """Turns mels into sound: any module with these members will do."""

    mel_settings: dict

    def generate(self, mel: Tensor, seed: int = 0) -> Tensor:
        """mel (B, n_mels, T) -> wav (B, T · hop_length), the same for a seed."""

    def generate_stream(self, mel: Tensor, seed: int = 0) -> Iterator[Tensor]:
        """Such a wav in pieces (B, n), in memory that does not depend on T."""


def griffin_lim(
    mel: MelSpectrogram,
    magnitude: Path | str | None,
    sharpness: float,
    n_iter: int,
    momentum: float,
) -> GriffinLim:
    """`vocoder=griffin_lim`, for any mels.

    Args: magnitude, the file of a `MagnitudeNet`, which must fit, "shipped", which is left out
        where it does not fit, or None.
    """
    network = None
    if magnitude is not None:
        path = resources.GRIFFIN_LIM if magnitude == "shipped" else magnitude
        network = checkpoints.load_magnitude(path)
        try:
            require_same_settings(network.mel_settings, mel.settings, str(path), "the model")
        except InputError as error:
            if magnitude != "shipped":
                raise
            log.info("Griffin-Lim without its network (%s)", error)
            network = None
    return GriffinLim(mel, network, sharpness, n_iter, momentum)


def wavernn(
    mel: MelSpectrogram, path: Path | str | None, temperature: float | None = None
) -> Vocoder:
    """`vocoder=wavernn`: the network in a file; InputError when it is for other mels.

    Args: temperature, of a `MultiBandWaveRNN`; None is the file's.
    """
    path = path or resources.WAVERNN
    network = checkpoints.load_wavernn(path)
    require_same_settings(network.mel_settings, mel.settings, f"vocoder {path}", "the converter")
    if temperature is not None:
        require_within(0, 2, "vocoder", temperature=temperature)
        if not hasattr(network, "temperature"):
            raise InputError(
                f"vocoder.temperature={temperature}: {path} is not a multi-band WaveRNN"
            )
        network.temperature = temperature
    return network


def auto_vocoder(
    mel: MelSpectrogram, path: Path | str | None, fallback: Callable[[MelSpectrogram], Vocoder]
) -> Vocoder:
    """`vocoder=auto`: the WaveRNN in `path` where it is for these mels, else `fallback`."""
    if path is None:
        return fallback(mel)
    network = checkpoints.load_wavernn(path)
    try:
        require_same_settings(network.mel_settings, mel.settings, f"WaveRNN {path}", "the model")
    except InputError as error:
        log.info("vocoder: Griffin-Lim (%s)", error)
        return fallback(mel)
    return network


def default_vocoder(mel: MelSpectrogram) -> Vocoder:
    """What `vocoder=auto` stands for, from conf/vocoder."""
    settings = resources.settings("vocoder", "griffin_lim")
    return auto_vocoder(mel, None, lambda mel: griffin_lim(mel, **settings))


@torch.inference_mode()
def vocode(
    vocoder: Vocoder,
    mels: Sequence[Tensor],
    lengths: Sequence[int],
    longest: int,
    seed: int,
    progress: Progress = no_progress,
) -> list[np.ndarray]:
    """Mels (n_mels, T) to sound, float32 (length,): short ones side by side, long as streams.

    Args:
        lengths: in samples; what the last frame has beyond them is cut off.
        longest: frames up to which a mel is short.
    """
    wavs = {}
    done, total = 0, sum(lengths)
    short = [index for index, mel in enumerate(mels) if mel.shape[1] <= longest]
    if short:
        n_frames = max(mels[index].shape[1] for index in short)
        batch = [F.pad(mels[index], (0, n_frames - mels[index].shape[1])) for index in short]
        sound = vocoder.generate(torch.stack(batch), seed).float().cpu().numpy()
        wavs = dict(zip(short, sound, strict=True))
        done = sum(lengths[index] for index in short)
        progress(done / total)
    for index, mel in enumerate(mels):
        if index in wavs:
            continue
        buffer = SpillBuffer()
        for piece in vocoder.generate_stream(mel[None], seed):
            buffer.append(piece[0].float().cpu().numpy())
            done += piece.shape[1]
            progress(min(1.0, done / total))
        wavs[index] = buffer.array()
    return [wavs[index][:length] for index, length in enumerate(lengths)]
