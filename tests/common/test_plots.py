import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from vc_lightning.common.plots import BAD, GOOD, histogram, mel_figure, picture, pixels


def bars(figure):
    """Heights of the bars by colour."""
    (axes,) = figure.axes
    return {
        to_hex(bar[0].get_facecolor()): [p.get_height() for p in bar] for bar in axes.containers
    }


def test_bar_heights_are_counts():
    values = np.array([*[0.5] * 6, *[1.0] * 3, 2.5, np.nan])
    figure = histogram("Lengths", "s", "things", values, [0, 1, 2, 3], lambda v: v == 1)
    assert bars(figure) == {GOOD: [6, 3, 1], BAD: [0, 3, 0]}
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "Lengths\n10 things, median 0.5 s"
    assert axes.get_xlabel() == "s"
    assert axes.get_xlim() == (0, 3)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2", "3"]
    assert [text.get_text() for text in axes.texts] == ["6", "3", "1"]
    assert axes.get_ylim() == pytest.approx((0, 6.6))


def test_outer_bars_count_values_beyond():
    figure = histogram("title", "s", "things", np.array([-5, 1.5, 2.0, 99]), [0, 1, 2])
    assert bars(figure)[GOOD] == [1, 3]


@pytest.mark.parametrize("values", [[], [np.nan], [0.0], list(range(12_345))])
def test_histogram_of_few_and_many_values(values):
    figure = histogram("title", "s", "things", np.array(values, dtype=float), np.arange(40))
    assert sum(bars(figure)[GOOD]) == np.isfinite(values).sum()
    ticks = figure.axes[0].get_xticks()
    assert 10 < len(ticks) < 15
    assert ticks[1] == float(figure.axes[0].get_xticklabels()[1].get_text())


def test_picture_orientation_and_brightness():
    mel = torch.zeros(1, 80, 10)
    mel[0, 79, :] = 1  # the highest band
    image = picture(mel)
    assert (image.shape, image.dtype) == ((80, 10, 3), np.uint8)
    assert image[0].min() > 180  # the top row
    assert image[1:].max() < 10


def test_mel_figure_titles_and_axis():
    mels = {"source": torch.rand(1, 80, 50), "conversion": torch.rand(1, 80, 40)}
    figure = mel_figure(mels, 0.016)
    for axes, (title, mel) in zip(figure.axes, mels.items(), strict=True):
        assert axes.get_title() == title
        (image,) = axes.images
        np.testing.assert_array_equal(image.get_array(), mel[0])
        assert image.get_extent() == pytest.approx([0, 0.016 * mel.shape[-1], 0, 80])
        assert image.get_clim() == (0, 1)
        assert axes.get_xlim()[1] == pytest.approx(0.016 * 50)
    assert figure.axes[-1].get_xlabel() == "seconds"


def test_pixels_of_figure():
    image = pixels(histogram("title", "s", "things", np.array([0.5]), [0, 1]))
    assert (image.shape, image.dtype) == ((400, 800, 3), np.uint8)
    colour = [int(GOOD[i : i + 2], 16) for i in (1, 3, 5)]
    assert (image == colour).all(axis=-1).mean() > 0.3  # the only bar fills the axes
