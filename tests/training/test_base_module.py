from unittest.mock import Mock

import pytest
import torch

from vc_lightning.training.base_module import BaseModule


@pytest.mark.parametrize(("device", "non_blocking"), [("cpu", False), ("cuda", True)])
def test_non_blocking_copies_to_gpu_only(device, non_blocking):
    batch, device = Mock(), torch.device(device)
    moved = BaseModule.transfer_batch_to_device(None, batch, device, 0)
    batch.to.assert_called_once_with(device, non_blocking=non_blocking)
    assert moved is batch.to.return_value
