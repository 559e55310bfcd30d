import multiprocessing
import threading
import time

import pytest
import torch

from vc_lightning.common import threads
from vc_lightning.common.threads import CoreMeter, ThreadChooser, second_thread, threads_beside


@pytest.mark.parametrize(
    ("others", "n_cores", "n_threads"),
    [(0, 2, 2), (0.25, 2, 2), (0.5, 2, 1), (2, 2, 1), (9, 2, 1), (1, 8, 7), (1.5, 8, 6), (0, 1, 1)],
)
def test_threads_are_the_free_cores(others, n_cores, n_threads):
    assert threads_beside(others, n_cores) == n_threads


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_meter_counts_other_programs_and_not_this_one(monkeypatch):
    monkeypatch.setattr(threads, "SECONDS", 0.2)
    own = CoreMeter()
    spin(0.6)
    alone = own.others()
    other = multiprocessing.get_context("fork").Process(target=spin, args=(3,))
    other.start()
    meter = CoreMeter()
    time.sleep(1.2)
    beside = meter.others()
    other.terminate()
    other.join()
    assert beside > 0.3  # half a core or more of it, on a machine that others use as well
    assert beside > alone - 0.8  # this program's own spinning was not counted


def test_meter_waits_before_it_measures_again(monkeypatch):
    monkeypatch.setattr("psutil.getloadavg", lambda: (0.75, 0, 0))
    meter = CoreMeter()
    monkeypatch.setattr(meter, "_time_of_others", lambda: meter._theirs + 10)
    assert meter.others() == 0.75
    meter._wall -= 0.2
    assert meter.others() == pytest.approx(50, rel=0.1)  # a short first time is enough
    meter._wall -= 0.2
    assert meter.others() == pytest.approx(50, rel=0.1)
    meter._wall -= 4.8
    assert meter.others() == pytest.approx(2, rel=0.05)
    assert meter.others() == pytest.approx(2, rel=0.05)


def test_chooser_sets_the_number_of_threads(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    try:
        torch.set_num_threads(4)
        chooser = ThreadChooser()
        others = iter([0, 2.5, 0])
        monkeypatch.setattr(chooser._meter, "others", lambda: next(others))
        assert [chooser.choose() for _ in range(3)] == [4, 1, 4]
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_the_users_number_stays(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    try:
        torch.set_num_threads(3)
        chooser = ThreadChooser()
        assert not chooser.has_choice  # so nothing waits for a measurement
        assert chooser.choose() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("n_threads", "takes_half", "is_beside"),
    [(1, False, True), (1, True, True), (2, False, False), (2, True, True), (3, True, False)],
)
def test_a_second_thread_computes_beside_one(n_threads, takes_half, is_beside):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(n_threads)
        with second_thread(takes_half) as beside:
            expected = 1 if is_beside else n_threads
            assert beside.submit(torch.get_num_threads).result() == expected
            assert torch.get_num_threads() == expected
            found = beside.submit(threading.get_ident).result() != threading.get_ident()
            assert found == is_beside
            assert beside.submit(max, 1, 2, key=abs).result() == 2
            failed = beside.submit(int, "no number")
        assert isinstance(failed.exception(), ValueError)
        with pytest.raises(KeyError), second_thread(takes_half):
            raise KeyError
        assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)
