import pytest
import torch

from vc_lightning.conversion.chunking import Window, cross_faded, windows


def test_windows_by_hand():
    first = Window(0, 0, 10, 13)
    assert windows(25, 10, 3) == [first, Window(7, 10, 20, 23), Window(17, 20, 25, 25)]
    assert windows(23, 10, 3) == [first, Window(7, 10, 23, 23)]
    assert windows(13, 10, 3) == [Window(0, 0, 13, 13)]


@pytest.mark.parametrize("n_frames", [1, 9, 10, 13, 14, 20, 23, 24, 57])
def test_windows_keep_every_frame_once(n_frames):
    found = windows(n_frames, 10, 3)
    kept = [frame for window in found for frame in range(window.start, window.stop)]
    assert kept == list(range(n_frames))
    for window in found:
        assert window.first == max(0, window.start - 3)
        assert window.last == min(n_frames, window.stop + 3)


@pytest.mark.parametrize("n_frames", [1, 13, 14, 23, 24, 57])
def test_what_does_not_depend_on_the_window_comes_out_unchanged(n_frames):
    values = torch.rand(2, n_frames)
    parts = ((w, values[:, w.first : w.last]) for w in windows(n_frames, 10, 3))
    torch.testing.assert_close(torch.cat(list(cross_faded(parts, 2)), dim=1), values)


def test_one_window_fades_into_the_next():
    parts = zip(windows(25, 10, 3), torch.tensor([0.0, 1.0, 2.0]), strict=True)
    parts = ((w, value.expand(1, w.last - w.first)) for w, value in parts)
    joined = torch.cat(list(cross_faded(parts, 3)), dim=1)[0].tolist()
    assert joined == [0] * 7 + [0, 0.5, 1] + [1] * 7 + [1, 1.5, 2] + [2] * 5
