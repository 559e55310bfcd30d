"""Prints how far Griffin-Lim's spectra are from those of a manifest's test split.

python scripts/measure/measure_griffin_lim.py MANIFEST.tsv [SPLIT]
"""

import csv
import sys
import time
from pathlib import Path

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import resources
from vc_lightning.models.vocoders.factory import griffin_lim

sys.path.append(str(Path(__file__).parents[1] / "weights"))

from make_griffin_lim import distance, prepared, pseudo_inverse


def main(manifest: Path, split: str) -> None:
    """Log-spectral distances, and how long a second of sound takes."""
    mel = MelSpectrogram(**resources.settings("mel", "autovc"))
    with manifest.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["split"] == split]
    wavs = list(prepared([manifest.parent / row["path"] for row in rows], mel))
    vocoder = griffin_lim(mel, **resources.settings("vocoder", "griffin_lim"))
    ways = {
        "pseudo-inverse": pseudo_inverse(mel),
        "no network": mel.spectrum,
        "shipped network": lambda log_mel: vocoder.network(log_mel, mel.spectrum(log_mel)),
    }
    for name, to_spectrum in ways.items():
        print(f"{name}: {distance(to_spectrum, wavs, mel):.2f} dB")
    started = time.perf_counter()
    samples = sum(vocoder.generate(mel(wav)[None]).shape[1] for wav in wavs)
    seconds = time.perf_counter() - started
    print(f"a second of sound takes {seconds / samples * mel.sample_rate:.3f} s")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [*sys.argv, "test"][2])
