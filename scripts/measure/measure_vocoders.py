"""Score resynthesised recordings (recording → mel → vocoder) beside the recordings themselves.

    pip install -e ".[eval]"
    python scripts/measure/measure_vocoders.py MANIFEST.tsv [--split test] \
        [--vocoders source_filter,FILE]

The scorers are independent of this project: DNSMOS (Reddy et al. 2022, speechmos) rates how natural
a recording sounds, Whisper tiny.en (Radford et al. 2022) transcribes it. Character errors are
counted against Whisper's transcript of the recording.
"""

import argparse
import csv
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import resources
from vc_lightning.evaluation.scorers import dnsmos
from vc_lightning.evaluation.scorers.recognisers import texts, whisper
from vc_lightning.models import checkpoints
from vc_lightning.models.vocoders.base import Vocoder
from vc_lightning.models.vocoders.factory import griffin_lim
from vc_lightning.models.vocoders.griffin_lim.network import log_spectral_distance


def main(manifest: Path, split: str, names: list[str], n_each: int, folder: Path | None) -> None:
    """Print a table with one row per vocoder: means over the recordings."""
    mel = MelSpectrogram(**resources.settings("mel", "autovc"))
    paths = recordings(manifest, split, n_each)
    wavs = [mel.prepare(*io.load(path)) for path in paths]
    copies, seconds = {}, {}
    for name in names:  # before the scorers are loaded, whose threads would slow it down
        vocoder = made(name, mel)
        started = time.perf_counter()
        copies[name] = [copy(vocoder, mel, wav) for wav in wavs]
        seconds[name] = time.perf_counter() - started
    n_samples = sum(len(wav) for wav in wavs)
    listener, recogniser = dnsmos.DNSMOSListener(), whisper.Recogniser(whisper.TINY_EN)
    rate = mel.sample_rate
    heard = [recogniser.transcript(wav, rate, "en") for wav in wavs]
    print(f"{len(wavs)} recordings of {manifest}, split {split}")
    print("| | DNSMOS | character errors | log-spectral distance | s per second of sound |")
    print("|---|---|---|---|---|")
    print(
        f"| recordings | {np.mean([listener.naturalness(wav, rate) for wav in wavs]):.2f} | | | |"
    )
    for name, made_of_mels in copies.items():
        words = [recogniser.transcript(wav, rate, "en") for wav in made_of_mels]
        scores = [listener.naturalness(wav, rate) for wav in made_of_mels]
        distances = [distance(mel, *pair) for pair in zip(wavs, made_of_mels, strict=True)]
        print(
            f"| {name} | {np.mean(scores):.2f} "
            f"| {character_errors(heard, words):.3f} "
            f"| {np.mean(distances):.2f} dB "
            f"| {seconds[name] / n_samples * mel.sample_rate:.3f} |",
            flush=True,
        )
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            for path, wav in zip(paths, made_of_mels, strict=True):
                io.save(folder / f"{path.stem}_{Path(name).stem}.wav", wav, mel.sample_rate)


def character_errors(references: list[str], heard: list[str]) -> float:
    """Divide the character errors by the length of all references."""
    counts = [texts.character_errors(*pair) for pair in zip(references, heard, strict=True)]
    return sum(found.amount for found in counts) / sum(found.base for found in counts)


def recordings(manifest: Path, split: str, n_each: int) -> list[Path]:
    """List the first English recordings of every speaker of a split."""
    by_speaker = defaultdict(list)
    with manifest.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["split"] == split and row["lang"] == "en":
                by_speaker[row["speaker"]].append(manifest.parent / row["path"])
    return [path for paths in by_speaker.values() for path in paths[:n_each]]


def made(name: str, mel: MelSpectrogram) -> Vocoder:
    """Build Griffin-Lim with its settings in conf/, a shipped network, or the network in a file."""
    if name == "griffin_lim":
        return griffin_lim(mel, **resources.settings("vocoder", "griffin_lim"))
    shipped = resources.weights(name)
    return checkpoints.load_vocoder(shipped if shipped.is_file() else name)


def copy(vocoder: Vocoder, mel: MelSpectrogram, wav: np.ndarray) -> np.ndarray:
    """Resynthesise a prepared recording (n,)."""
    with torch.inference_mode():
        return vocoder.generate(mel(torch.from_numpy(wav))[None])[0, : len(wav)].numpy()


def distance(mel: MelSpectrogram, wav: np.ndarray, other: np.ndarray) -> float:
    """Compute the log-spectral distance in dB, see `log_spectral_distance`."""
    spectra = [mel.log_magnitude(torch.from_numpy(x)) for x in (other, wav)]
    return log_spectral_distance(*spectra).item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--vocoders", default="source_filter,griffin_lim,wavernn", help="or files")
    parser.add_argument("--each", type=int, default=4, help="recordings of every speaker")
    parser.add_argument("--folder", type=Path, help="folder to write the sound to")
    given = parser.parse_args()
    main(given.manifest, given.split, given.vocoders.split(","), given.each, given.folder)
