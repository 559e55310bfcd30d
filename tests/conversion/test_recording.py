import pytest
import torch

from vc_lightning.conversion.recording import Chunk, cross_fade, split_into_chunks


def test_chunks_of_known_lengths():
    first = Chunk(0, 0, 10, 13)
    assert split_into_chunks(25, 10, 3) == [first, Chunk(7, 10, 20, 23), Chunk(17, 20, 25, 25)]
    assert split_into_chunks(23, 10, 3) == [first, Chunk(7, 10, 23, 23)]
    assert split_into_chunks(13, 10, 3) == [Chunk(0, 0, 13, 13)]


@pytest.mark.parametrize("n_frames", [1, 9, 10, 13, 14, 20, 23, 24, 57])
def test_chunks_keep_every_frame_once(n_frames):
    found = split_into_chunks(n_frames, 10, 3)
    kept = [frame for chunk in found for frame in range(chunk.start, chunk.stop)]
    assert kept == list(range(n_frames))
    for chunk in found:
        assert chunk.first == max(0, chunk.start - 3)
        assert chunk.last == min(n_frames, chunk.stop + 3)


@pytest.mark.parametrize("n_frames", [1, 13, 14, 23, 24, 57])
def test_local_operation_is_unchanged(n_frames):
    values = torch.rand(2, n_frames)
    parts = ((w, values[:, w.first : w.last]) for w in split_into_chunks(n_frames, 10, 3))
    torch.testing.assert_close(torch.cat(list(cross_fade(parts, 2)), dim=1), values)


def test_cross_fade():
    parts = zip(split_into_chunks(25, 10, 3), torch.tensor([0.0, 1.0, 2.0]), strict=True)
    parts = ((w, value.expand(1, w.last - w.first)) for w, value in parts)
    joined = torch.cat(list(cross_fade(parts, 3)), dim=1)[0].tolist()
    assert joined == [0] * 7 + [0, 0.5, 1] + [1] * 7 + [1, 1.5, 2] + [2] * 5
