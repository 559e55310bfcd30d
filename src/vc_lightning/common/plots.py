"""Pictures by matplotlib: mel-spectrograms and histograms.

matplotlib is imported when the first picture is drawn, because most commands draw none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOUR_MAP = "magma"
GOOD, BAD = "#41104f", "#f1605d"
WIDTH, HEIGHT = 8, 4  # inches of 100 pixels
MEL_HEIGHT = 2  # inches
BAR_WIDTH = 0.94  # of the distance between two bars
MAX_LABELS = 14  # below the bars


def picture(mel: Tensor) -> np.ndarray:
    """Draw a mel without axes.

    Args:
        mel: (1, n_mels, T) in 0…1.

    Returns:
        RGB image (n_mels, T, 3), uint8, the lowest band at the bottom.
    """
    import matplotlib

    values = mel[0].flip(0).float().cpu().numpy()
    return matplotlib.colormaps[COLOUR_MAP](values, bytes=True)[..., :3]


def mel_figure(mels: Mapping[str, Tensor], seconds_per_frame: float) -> Figure:
    """Draw mels one above the other, with titles and a time axis.

    Args:
        mels: Titles and mels (1, n_mels, T) in 0…1.
        seconds_per_frame: Hop of the mels in seconds.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, MEL_HEIGHT * len(mels)), layout="constrained")
    rows = figure.subplots(len(mels), sharex=True, squeeze=False)[:, 0]
    for axes, (title, mel) in zip(rows, mels.items(), strict=True):
        n_mels, n_frames = mel.shape[1:]
        axes.imshow(
            mel[0].float().cpu().numpy(),
            cmap=COLOUR_MAP,
            vmin=0,
            vmax=1,
            origin="lower",
            aspect="auto",
            extent=(0, n_frames * seconds_per_frame, 0, n_mels),
        )
        axes.set_title(title)
        axes.set_ylabel("mel band")
    longest = max(mel.shape[-1] for mel in mels.values())
    rows[-1].set_xlim(0, longest * seconds_per_frame)
    rows[-1].set_xlabel("seconds")
    return figure


def histogram(
    title: str,
    unit: str,
    what: str,
    values: np.ndarray,
    edges: Sequence[float],
    is_bad: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Figure:
    """Draw how many values lie between neighbouring edges.

    All bars have the same width, whatever the edges. The first and the last bar also count the
    values beyond the edges; NaN and infinity are left out.

    Args:
        title: First line above the bars.
        unit: Unit of the values.
        what: Name of the things that have the values, in the plural.
        values: (n,).
        edges: Rising limits of the bars.
        is_bad: Function that marks values; their share of a bar is drawn in another colour, below.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    values = values[np.isfinite(values)]
    bars = np.searchsorted(edges, values, side="right") - 1
    bars = bars.clip(0, len(edges) - 2)
    counts = np.bincount(bars, minlength=len(edges) - 1)
    bad = np.bincount(bars[is_bad(values)] if is_bad else bars[:0], minlength=len(counts))
    middle = f", median {np.median(values):.3g} {unit}" if len(values) else ""

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    centres = np.arange(len(counts)) + 0.5
    drawn = axes.bar(centres, counts, BAR_WIDTH, color=GOOD)
    axes.bar(centres, bad, BAR_WIDTH, color=BAD)
    axes.bar_label(drawn, [f"{count}" if count else "" for count in counts], fontsize=8)
    axes.set_title(f"{title}\n{len(values)} {what}{middle}", loc="left")
    axes.set_xlabel(unit)
    axes.set_xlim(0, len(counts))
    axes.set_ylim(0, 1.1 * max(1, counts.max()))
    every = -(-len(edges) // MAX_LABELS)
    axes.set_xticks(range(0, len(edges), every), [f"{edge:g}" for edge in edges[::every]])
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "left", "right"]].set_visible(False)
    return figure


def pixels(figure: Figure) -> np.ndarray:
    """Render a figure as an RGB image (height, width, 3), uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
