"""Loss of quality by noise, and its reduction by cleanup.denoise (extras eval, cleanup).

python benchmarks/cleanup_quality.py [FILE …]    recordings of several speakers, or the examples

Every recording is converted into the voice of the next one, clean and with noise at 10 dB in both:
pink noise, and the voices of all other recordings at once.
"""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vc_lightning import VoiceConverter
from vc_lightning.audio import cleanup, voice_activity
from vc_lightning.common.resources import ROOT
from vc_lightning.evaluation.scorers import dnsmos
from vc_lightning.evaluation.scorers.recognisers import texts, whisper
from vc_lightning.models.speaker_encoder import similarity

SNR_DB = 10.0
COLUMNS = ["DNSMOS of the source", "DNSMOS", "character errors", "similarity to the target"]

Noise = Callable[[int], np.ndarray]  # makes so many samples


def main(paths: list[Path]) -> None:
    """Print a table with one row per condition: means over all pairs."""
    converter = VoiceConverter.from_pretrained()
    rate = converter.sample_rate
    wavs = [converter.load(path) for path in paths]
    pairs = list(zip(wavs, [*wavs[1:], wavs[0]], strict=True))
    listener, recogniser = dnsmos.DNSMOSListener(), whisper.Recogniser(whisper.TINY_EN)
    rng = np.random.default_rng(0)
    noises: dict[str, Noise | None] = {"clean": None, "pink noise": lambda n: pink(n, rng)}
    if len(wavs) > 2:
        noises["voices"] = lambda n: voices(wavs, n, rng)
    print(f"{len(pairs)} pairs, noise at {SNR_DB:.0f} dB in source and target")
    print("| |", " | ".join(COLUMNS), "|")
    print("|---|" + "---:|" * len(COLUMNS))
    for (name, noise), denoise in itertools.product(noises.items(), (False, True)):
        measured, errors = [], np.zeros(2)
        for source, target in pairs:
            source_heard = heard(source, rate, noise, denoise)
            conversion = converter.convert(source_heard, heard(target, rate, noise, denoise))
            said = recogniser.transcript(source, rate, "en")
            found = texts.character_errors(said, recogniser.transcript(conversion, rate, "en"))
            errors += found.amount, found.base
            measured.append(
                [
                    listener.naturalness(source_heard, rate),
                    listener.naturalness(conversion, rate),
                    similarity(converter.embed(conversion), converter.embed(target)),
                ]
            )
        before, after, likeness = np.mean(measured, axis=0)
        cells = [before, after, errors[0] / errors[1], likeness]
        title = f"{name}, cleanup.denoise=true" if denoise else name
        print(f"| {title} |", " | ".join(f"{cell:.2f}" for cell in cells), "|", flush=True)


def heard(wav: np.ndarray, rate: int, noise: Noise | None, denoise: bool) -> np.ndarray:
    """Add noise to a recording if there is any, then denoise it like cleanup.denoise=true."""
    wav = mixed(wav, noise(len(wav))) if noise else wav
    return cleanup.clean(wav, rate, denoise=True, trim=False) if denoise else wav


def mixed(wav: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Add noise to a recording, SNR_DB below it."""
    gain = voice_activity.rms_dbfs(wav) - voice_activity.rms_dbfs(noise) - SNR_DB
    return wav + voice_activity.amplify(noise.astype(np.float32), gain)


def pink(n: int, rng: np.random.Generator) -> np.ndarray:
    """Make noise (n,) whose power falls by 3 dB per octave."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), n)


def voices(wavs: list[np.ndarray], n: int, rng: np.random.Generator) -> np.ndarray:
    """Mix all recordings (n,), equally loud, each from a random position."""
    parts = [np.resize(np.roll(wav, rng.integers(len(wav))), n) for wav in wavs]
    equal = [voice_activity.amplify(part, -voice_activity.rms_dbfs(part)) for part in parts]
    return np.sum(equal, axis=0)


if __name__ == "__main__":
    examples = [ROOT / "examples" / "source.wav", ROOT / "examples" / "target.wav"]
    main([Path(name) for name in sys.argv[1:]] or examples)
