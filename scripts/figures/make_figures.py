"""Make docs/conversion.png and docs/conversion.wav from the two examples.

python scripts/figures/make_figures.py
"""

import torch

from vc_lightning import VoiceConverter
from vc_lightning.audio.files import io
from vc_lightning.common import resources
from vc_lightning.common.plots import mel_figure
from vc_lightning.conversion import provenance

DOCS = resources.ROOT / "docs"
TITLES = ("the words: source.wav", "the voice: target.wav", "both: conversion.wav")


def main() -> None:
    """Convert, then draw source, target and conversion one above the other."""
    converter = VoiceConverter.from_pretrained()
    source, target = (resources.ROOT / "examples" / f"{n}.wav" for n in ("source", "target"))
    conversion = converter.convert(source, target)
    strings = provenance.strings(converter.note())
    io.save(DOCS / "conversion.wav", conversion, converter.sample_rate, strings)
    wavs = [converter.load(source), converter.load(target), conversion]
    mels = [torch.from_numpy(converter.mel.extract(w, converter.sample_rate))[None] for w in wavs]
    n_frames = min(mel.shape[-1] for mel in mels)
    drawn = {title: mel[..., :n_frames] for title, mel in zip(TITLES, mels, strict=True)}
    figure = mel_figure(drawn, converter.mel.hop_length / converter.sample_rate)
    figure.savefig(DOCS / "conversion.png")


if __name__ == "__main__":
    main()
