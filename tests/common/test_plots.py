import numpy as np
import pytest
import torch

from vc_lightning.common import plots as charts
from vc_lightning.common.plots import BAD, BOTTOM, GOOD, LEFT, RIGHT, TOP, histogram


def bar_heights(image, n_bars, colour):
    """Pixels of a colour in the middle of each bar."""
    middles = np.linspace(LEFT, RIGHT, 2 * n_bars + 1)[1::2].astype(int)
    return [(image[:BOTTOM, x] == colour).all(axis=-1).sum() for x in middles]


def test_bars_are_as_high_as_what_they_count():
    values = np.array([*[0.5] * 6, *[1.0] * 3, 2.5, np.nan])
    image = histogram("title", "s", "things", values, [0, 1, 2, 3], lambda v: v == 1)
    assert (image.shape, image.dtype) == ((charts.HEIGHT, charts.WIDTH, 3), np.uint8)
    full = BOTTOM - TOP
    assert bar_heights(image, 3, GOOD) == pytest.approx([full, 0, full / 6], abs=2)
    assert bar_heights(image, 3, BAD) == pytest.approx([0, full / 2, 0], abs=2)


def test_the_outer_bars_hold_what_lies_beyond():
    image = histogram("title", "s", "things", np.array([-5, 1.5, 2.0, 99]), [0, 1, 2])
    full = BOTTOM - TOP
    assert bar_heights(image, 2, GOOD) == pytest.approx([full / 3, full], abs=2)


@pytest.mark.parametrize("values", [[], [np.nan], [0.0], list(range(12_345))])
def test_any_number_of_values_can_be_drawn(values):
    histogram("title", "s", "things", np.array(values, dtype=float), np.arange(40))
    assert all(highest <= 6 * charts._count_step(highest) for highest in range(1, 20_000))


def test_a_picture_shows_mels_upright_and_bright_where_loud():
    mel = torch.zeros(1, 80, 10)
    mel[0, 79, :] = 1  # the highest band
    image = charts.picture([mel, mel])
    assert image.shape == (2 * (80 + 4 + 80), 20, 3)
    assert image[0].min() > 180  # the top row
    assert image[100].max() < 10
