"""Trains checkpoints/griffin_lim.safetensors, which finds spectra behind mels for Griffin-Lim.

python scripts/weights/make_griffin_lim.py MANIFEST.tsv_OR_FOLDER [--output FILE]
"""

import argparse
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vc_lightning.audio import io as audio
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.data.manifest import find_utterances, read_manifest, split_utterances
from vc_lightning.models import checkpoints
from vc_lightning.models.checkpoints import Card
from vc_lightning.models.vocoders.mel_to_linear import MagnitudeNet, log_spectral_distance

SEED = 0
MINUTES = 120  # of sound, the first in a random order
STEPS = 3000
VALIDATE_EVERY = 500
BATCH_SIZE = 16
CROP_FRAMES = 64
LEARNING_RATE = 1e-3  # the peak
VAL_FRACTION = 0.05  # where a manifest names no validation speakers

log = logging.getLogger("make_griffin_lim")


def main(data: Path, output: Path, trained_on: str, licence: str) -> None:
    """Trains for minutes on one core and says how far the held-out spectra are."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    mel = MelSpectrogram(**resources.settings("mel", "autovc"))
    utterances = find_utterances(data) if data.is_dir() else read_manifest(data, None)
    train, val = split_utterances(utterances, VAL_FRACTION, val_speakers=0, seed=SEED)
    shuffled = [train[index].path for index in rng.permutation(len(train))]
    wavs = list(prepared(shuffled, mel))
    held_out = list(prepared([utterance.path for utterance in val], mel))
    if not wavs or not held_out:
        raise InputError(f"{data}: {len(wavs)} recordings to train on, {len(held_out)} held out")
    sound = torch.cat(wavs)
    log.info("pseudo-inverse: %.2f dB", distance(pseudo_inverse(mel), held_out, mel))
    log.info("no network: %.2f dB", distance(mel.spectrum, held_out, mel))

    network = MagnitudeNet(mel.n_mels, mel.filters.shape[1], dim=256, n_blocks=3)
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, STEPS, pct_start=0.1)
    for step in range(STEPS):
        starts = rng.integers(len(sound) - CROP_FRAMES * mel.hop_length, size=BATCH_SIZE)
        crops = torch.stack([sound[i : i + CROP_FRAMES * mel.hop_length] for i in starts])
        log_mel, target = mel(crops), mel.log_magnitude(crops).clamp(min=0)
        rough = mel.spectrum(log_mel)
        if step == 0:
            network.output.bias.data.copy_((target - rough).mean(dim=(0, 2)))
        loss = F.mse_loss(network(log_mel, rough), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % VALIDATE_EVERY == 0:
            decibels = distance(lambda m: network(m, mel.spectrum(m)), held_out, mel)
            log.info("step %d: loss %.4f, held out %.2f dB", step + 1, loss.item(), decibels)
    card = Card(
        "magnitude",
        network.arguments,
        mel.settings,
        step=STEPS,
        trained_on=trained_on,
        licence=licence,
    )
    checkpoints.save(output, network.state_dict(), card, torch.float16)


def prepared(paths: Sequence[Path], mel: MelSpectrogram) -> Iterator[Tensor]:
    """The usable recordings (n,), ready for `mel`, until they last MINUTES."""
    seconds = 0.0
    for path in paths:
        if seconds >= 60 * MINUTES:
            return
        try:
            wav = mel.prepare(*audio.load(path))
        except InputError as error:
            log.warning("left out: %s", error)
            continue
        seconds += len(wav) / mel.sample_rate
        yield torch.from_numpy(wav)


@torch.no_grad()
def distance(
    to_spectrum: Callable[[Tensor], Tensor], wavs: Sequence[Tensor], mel: MelSpectrogram
) -> float:
    """Mean log-spectral distance in dB between recordings and what is made of their mels."""
    distances = [
        log_spectral_distance(to_spectrum(mel(wav)[None])[0], mel.log_magnitude(wav))
        for wav in wavs
    ]
    return float(torch.stack(distances).mean())


def pseudo_inverse(mel: MelSpectrogram) -> Callable[[Tensor], Tensor]:
    """The usual way from mels to spectra, to compare with."""
    inverse = torch.linalg.pinv(mel.filters)
    gain = mel.settings["gain"]
    return lambda log_mel: mel.logarithm(gain * (inverse @ mel.amplitude(log_mel)).clamp(min=0))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="a manifest, or a folder of recordings")
    parser.add_argument("--output", type=Path, default=resources.GRIFFIN_LIM)
    parser.add_argument("--trained-on", default="", help="for the file's header")
    parser.add_argument("--licence", default="", help="of the weights, for the file's header")
    main(**vars(parser.parse_args()))
