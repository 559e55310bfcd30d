"""Pictures as arrays: mel-spectrograms, and bar charts drawn by Pillow with its own font."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

COLOURS = np.array(  # dark to bright, perceptually even enough to read a spectrogram by
    [[0, 0, 4], [65, 15, 117], [158, 47, 127], [241, 96, 93], [254, 183, 122], [252, 253, 191]]
)
WIDTH, HEIGHT = 800, 400  # pixels
LEFT, RIGHT, TOP, BOTTOM = 70, 770, 90, 340  # of the bars
PAPER, INK, GRID = (255, 255, 255), (40, 40, 40), (225, 225, 225)
GOOD, BAD = tuple(COLOURS[1].tolist()), tuple(COLOURS[3].tolist())
LEAST_BAR = 3  # pixels: what is there can be seen
LABEL_GAP = 12  # pixels between two labels


def picture(mels: list[Tensor]) -> np.ndarray:
    """Mels (1, n_mels, T) in 0…1, one above the other, as an RGB image (height, width, 3)."""
    gap = np.ones((4, mels[0].shape[-1]))
    rows = [part for mel in mels for part in (mel[0].flip(0).float().cpu().numpy(), gap)]
    values = np.concatenate(rows[:-1]).clip(0, 1).repeat(2, axis=0).repeat(2, axis=1)
    positions = np.linspace(0, 1, len(COLOURS))
    channels = [np.interp(values, positions, channel) for channel in COLOURS.T]
    return np.stack(channels, axis=-1).astype(np.uint8)


def histogram(
    title: str,
    unit: str,
    what: str,
    values: np.ndarray,
    edges: Sequence[float],
    is_bad: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """How many values lie between which edges, as an image (HEIGHT, WIDTH, 3), uint8.

    All bars are as wide, whatever the edges. The outer two also hold what lies beyond them, and
    NaN is left out.

    Args:
        unit: of the values; `what` they are, in the plural.
        is_bad: which values deserve another colour; they are the lower part of a bar.
    """
    values = values[np.isfinite(values)]
    places = np.searchsorted(edges, values, side="right") - 1
    places = places.clip(0, len(edges) - 2)
    counts = np.bincount(places, minlength=len(edges) - 1)
    bad = np.bincount(places[is_bad(values)] if is_bad else places[:0], minlength=len(counts))
    highest = max(1, int(counts.max()))
    step = _count_step(highest)
    scale = (BOTTOM - TOP) / (step * -(-highest // step))

    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(image)
    large, normal, small = (ImageFont.load_default(size) for size in (20, 15, 12))
    middle = f", median {np.median(values):.3g} {unit}" if len(values) else ""
    draw.text((LEFT, 14), title, INK, large)
    draw.text((LEFT, 44), f"{len(values)} {what}{middle}", INK, normal)
    draw.text((RIGHT, HEIGHT - 10), unit, INK, normal, anchor="rs")
    for count in range(0, highest + step, step):
        y = BOTTOM - count * scale
        draw.line((LEFT, y, RIGHT, y), GRID)
        draw.text((LEFT - 8, y), f"{count}", INK, normal, anchor="rm")
    lines = np.linspace(LEFT, RIGHT, len(edges))
    for index in np.flatnonzero(counts):
        left, right = lines[index] + 1, lines[index + 1] - 2
        y = BOTTOM - max(LEAST_BAR, counts[index] * scale)
        draw.rectangle((left, y, right, BOTTOM), GOOD)
        if bad[index]:
            y_bad = BOTTOM - max(LEAST_BAR, bad[index] * scale)
            draw.rectangle((left, y_bad, right, BOTTOM), BAD)
        draw.text(((left + right) / 2, y - 3), f"{counts[index]}", INK, small, anchor="ms")
    draw.line((LEFT, BOTTOM, RIGHT, BOTTOM), INK)

    labels = [f"{edge:g}" for edge in edges]
    width = max(draw.textlength(label, normal) for label in labels) + LABEL_GAP
    every = int(np.ceil(width / (lines[1] - lines[0])))
    for x, label in list(zip(lines, labels, strict=True))[::every]:
        draw.line((x, BOTTOM, x, BOTTOM + 5), INK)
        draw.text((x, BOTTOM + 9), label, INK, normal, anchor="ma")
    return np.asarray(image)


def _count_step(highest: int) -> int:
    """Distance of at most seven round numbers from 0 to `highest` > 0."""
    power = 10 ** max(0, len(str(highest)) - 2)
    return next(n * power for n in (1, 2, 5, 10, 20) if highest <= 6 * n * power)
