import pytest
import torch

from vc_lightning.common.errors import InputError
from vc_lightning.training.schedulers import noam, noam_factor


def test_noam_rise_and_decay():
    assert noam_factor(0, 4000) == pytest.approx(1 / 4000)
    assert noam_factor(1999, 4000) == pytest.approx(0.5)
    assert noam_factor(3999, 4000) == pytest.approx(1)
    assert noam_factor(15_999, 4000) == pytest.approx(0.5)


def test_noam_peak_is_learning_rate():
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1e-3)
    schedule = noam(optimizer, warmup=10)
    rates = []
    for _ in range(40):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert max(rates) == rates[9] == pytest.approx(1e-3)
    assert rates[39] == pytest.approx(5e-4)


@pytest.mark.parametrize("warmup", [0, -1, "x", 1.5])
def test_refuses_impossible_warmup(warmup):
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    with pytest.raises(InputError, match=f"warmup={warmup}"):
        noam(optimizer, warmup)
