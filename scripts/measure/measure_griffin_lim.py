"""Print the distance of Griffin-Lim's spectra from those of recordings of a manifest's split.

python scripts/measure/measure_griffin_lim.py MANIFEST.tsv [SPLIT]
"""

import csv
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.models import checkpoints
from vc_lightning.models.vocoders.factory import griffin_lim
from vc_lightning.models.vocoders.griffin_lim.network import log_spectral_distance


def main(manifest: Path, split: str) -> None:
    """Print log-spectral distances, and the computing time per second of sound."""
    mel = MelSpectrogram(**resources.settings("mel", "autovc"))
    with manifest.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["split"] == split]
    wavs = list(prepared([manifest.parent / row["path"] for row in rows], mel))
    vocoder = griffin_lim(mel, **resources.settings("vocoder", "griffin_lim"))
    network = checkpoints.load_griffin_lim()
    ways = {
        "pseudo-inverse": pseudo_inverse(mel),
        "no network": mel.spectrum,
        "shipped network": lambda log_mel: network(log_mel, mel.spectrum(log_mel)),
    }
    for name, to_spectrum in ways.items():
        print(f"{name}: {distance(to_spectrum, wavs, mel):.2f} dB")
    started = time.perf_counter()
    samples = sum(vocoder.generate(mel(wav)[None]).shape[1] for wav in wavs)
    seconds = time.perf_counter() - started
    print(f"a second of sound takes {seconds / samples * mel.sample_rate:.3f} s")


def prepared(paths: Sequence[Path], mel: MelSpectrogram) -> Iterator[Tensor]:
    """Read the usable recordings (n,), ready for `mel`."""
    for path in paths:
        try:
            yield torch.from_numpy(mel.prepare(*io.load(path)))
        except InputError as error:
            print(f"left out: {error}")


@torch.no_grad()
def distance(
    to_spectrum: Callable[[Tensor], Tensor], wavs: Sequence[Tensor], mel: MelSpectrogram
) -> float:
    """Average the log-spectral distance in dB between recordings and spectra of their mels."""
    distances = [
        log_spectral_distance(to_spectrum(mel(wav)[None])[0], mel.log_magnitude(wav))
        for wav in wavs
    ]
    return float(torch.stack(distances).mean())


def pseudo_inverse(mel: MelSpectrogram) -> Callable[[Tensor], Tensor]:
    """Make the usual inverse of the mel filters, for comparison."""
    inverse = torch.linalg.pinv(mel.filters)
    gain = mel.settings["gain"]
    return lambda log_mel: mel.logarithm(gain * (inverse @ mel.amplitude(log_mel)).clamp(min=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [*sys.argv, "test"][2])
