"""Learning-rate schedules."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from vc_lightning.common.errors import require_at_least


def noam_factor(step: int, warmup: int) -> float:
    """Compute the factor on the peak learning rate at `step` ≥ 0.

    The factor rises linearly to 1, then falls as 1/√step (Vaswani et al. 2017, section 5.3):
    warmup^0.5 · min((step+1) · warmup^−1.5, (step+1)^−0.5).
    """
    return warmup**0.5 * min((step + 1) * warmup**-1.5, (step + 1) ** -0.5)


def noam(optimizer: Optimizer, warmup: int) -> LambdaLR:
    """Make the Noam schedule; the learning rate peaks at the optimizer's `lr` at step `warmup`."""
    require_at_least(1, "scheduler", warmup=warmup)
    return LambdaLR(optimizer, lambda step: noam_factor(step, warmup))
