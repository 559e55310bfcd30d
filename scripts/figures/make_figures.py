"""Makes docs/conversion.png and docs/conversion.wav out of the two examples.

python scripts/figures/make_figures.py
"""

import torch
from PIL import Image, ImageDraw

from vc_lightning import VoiceConverter
from vc_lightning.audio import io as audio
from vc_lightning.common import resources
from vc_lightning.common.plots import picture
from vc_lightning.conversion import provenance

DOCS = resources.ROOT / "docs"
LABELS = ("the words: source.wav", "the voice: target.wav", "both: conversion.wav")
HEIGHT = 168  # of one mel in `picture`, with the gap below it


def main() -> None:
    """Converts, then draws source, target and conversion one above the other."""
    converter = VoiceConverter.from_pretrained()
    source, target = (resources.ROOT / "examples" / f"{n}.wav" for n in ("source", "target"))
    conversion = converter.convert(source, target)
    strings = provenance.strings(converter.note())
    audio.save(DOCS / "conversion.wav", conversion, converter.sample_rate, strings)
    wavs = [converter.load(source), converter.load(target), conversion]
    mels = [torch.from_numpy(converter.mel.extract(w, converter.sample_rate))[None] for w in wavs]
    n_frames = min(mel.shape[-1] for mel in mels)
    image = Image.fromarray(picture([mel[..., :n_frames] for mel in mels]))
    draw = ImageDraw.Draw(image)
    for row, label in enumerate(LABELS):
        draw.text((8, 6 + row * HEIGHT), label, fill="white", font_size=18)
    image.save(DOCS / "conversion.png", optimize=True)


if __name__ == "__main__":
    main()
