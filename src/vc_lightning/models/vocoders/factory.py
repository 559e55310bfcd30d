"""Build the vocoder that the config group `vocoder` names."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from vc_lightning.audio.mel import MelSpectrogram, require_same_settings
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.models import checkpoints
from vc_lightning.models.vocoders.base import Vocoder
from vc_lightning.models.vocoders.griffin_lim.vocoder import GriffinLim
from vc_lightning.models.vocoders.wavernn.multiband import (
    MultiBandWaveRNN,
    checked_temperature,
)

log = logging.getLogger(__name__)


def griffin_lim(
    mel: MelSpectrogram,
    path: Path | str | None,
    sharpness: float,
    n_iter: int,
    momentum: float,
) -> GriffinLim:
    """Build `vocoder=griffin_lim`, which takes mels of any settings.

    Args:
        mel: Mel-spectrogram to invert.
        path: File of a `GriffinLimNet` for these mels; "shipped" for the shipped one, which is used
            only if it is for these mels; None for no network.
        sharpness: See `GriffinLim`.
        n_iter: See `GriffinLim`.
        momentum: See `GriffinLim`.

    Raises:
        InputError: The file is unreadable or for other mels.
    """
    network = None
    if path is not None:
        file = resources.weights("griffin_lim") if path == "shipped" else path
        network = checkpoints.load_griffin_lim(file)
        try:
            require_same_settings(network.mel_settings, mel.settings, str(file), "the converter")
        except InputError as error:
            if path != "shipped":
                raise
            log.info("Griffin-Lim without its network (%s)", error)
            network = None
    return GriffinLim(mel, network, sharpness, n_iter, momentum)


def from_file(mel: MelSpectrogram, name: str, path: Path | str | None) -> Vocoder:
    """Build a vocoder that needs nothing but its weights, such as `vocoder=source_filter`.

    Args:
        mel: Mel-spectrogram to invert.
        name: Its choice in `conf/vocoder/`.
        path: Its file; None for the shipped one, `checkpoints/NAME.safetensors`.

    Raises:
        InputError: The file is unreadable or for other mels.
    """
    path = path or resources.weights(name)
    network = checkpoints.load_vocoder(path, name)
    require_same_settings(network.mel_settings, mel.settings, f"vocoder {path}", "the converter")
    return network


def wavernn(
    mel: MelSpectrogram,
    path: Path | str | None,
    temperature: float | Sequence[float] | None = None,
) -> Vocoder:
    """Build `vocoder=wavernn`.

    Args:
        mel: Mel-spectrogram to invert.
        path: File of a WaveRNN; None for the shipped one.
        temperature: Temperature of a `MultiBandWaveRNN`; None for that of the file.

    Raises:
        InputError: The file is unreadable or for other mels, or has no temperature.
    """
    path = path or resources.weights("wavernn")
    network = from_file(mel, "wavernn", path)
    if temperature is not None:
        temperature = checked_temperature("vocoder", temperature)
        if not isinstance(network, MultiBandWaveRNN):
            raise InputError(
                f"vocoder.temperature={temperature}: {path} is not a multi-band WaveRNN; "
                "leave it out"
            )
        network.temperature = temperature
    return network


def auto_vocoder(
    mel: MelSpectrogram, path: Path | str | None, fallback: Callable[[MelSpectrogram], Vocoder]
) -> Vocoder:
    """Build `vocoder=auto`: the network in a file if it is for these mels, else the fallback.

    Args:
        mel: Mel-spectrogram to invert.
        path: File of a source-filter vocoder or a WaveRNN; "shipped" for the shipped source-filter
            vocoder; None for the fallback.
        fallback: Function that builds a vocoder for any mels.

    Raises:
        InputError: The file is unreadable or of another kind.
    """
    if path is None:
        return fallback(mel)
    path = resources.weights("source_filter") if path == "shipped" else path
    network = checkpoints.load_vocoder(path)
    try:
        require_same_settings(
            network.mel_settings, mel.settings, f"vocoder {path}", "the converter"
        )
    except InputError as error:
        log.info("vocoder: Griffin-Lim (%s)", error)
        return fallback(mel)
    return network


def default_vocoder(mel: MelSpectrogram) -> Vocoder:
    """Build `vocoder=auto` with the settings in conf/vocoder."""
    path = resources.settings("vocoder", "auto")["path"]
    settings = resources.settings("vocoder", "griffin_lim")
    return auto_vocoder(mel, path, lambda mel: griffin_lim(mel, **settings))
