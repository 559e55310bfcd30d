import io
import tempfile

import numpy as np
import pytest

from vc_lightning.audio import spill_buffer
from vc_lightning.audio.spill_buffer import SpillBuffer, blocks


@pytest.mark.parametrize("in_memory", [0, 10, 30, 1000])
@pytest.mark.parametrize("width", [(), (3,)])
def test_returns_appended_samples(monkeypatch, in_memory, width):
    monkeypatch.setattr(spill_buffer, "MAX_IN_MEMORY", in_memory)
    pieces = [np.random.default_rng(n).standard_normal((n, *width)) for n in (4, 0, 7, 9)]
    one = SpillBuffer()
    for piece in pieces:
        one.append(piece)
    array = one.array()
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.concatenate(pieces).astype(np.float32))
    is_long = array.size > in_memory
    assert isinstance(array, np.memmap) == is_long
    array += 1  # it is the caller's


def test_leaves_no_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(spill_buffer, "MAX_IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    one = SpillBuffer()
    one.append(np.ones(5))
    assert one.array().sum() == 5
    assert list(tmp_path.iterdir()) == []


def test_full_disk_error_names_folder(monkeypatch):
    monkeypatch.setattr(spill_buffer, "MAX_IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda: io.FileIO("/dev/full", "r+"))
    with pytest.raises(OSError, match="No space left on device") as error:
        SpillBuffer().append(np.ones(5))
    assert error.value.filename == tempfile.gettempdir()


def test_empty_buffer(monkeypatch):
    one = SpillBuffer()
    one.append(np.zeros((0,)))
    assert one.array().shape == (0,)


def test_blocks_cover_an_array():
    lengths = [len(block) for block in blocks(np.arange(10), 4)]
    assert lengths == [4, 4, 2]
    assert np.concatenate(list(blocks(np.arange(10), 4))).tolist() == list(range(10))
