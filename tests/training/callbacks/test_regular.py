from torch import nn

from vc_lightning.training.callbacks.regular import in_eval_mode


def test_each_part_keeps_its_mode():
    """A frozen encoder in a network that trains stays in eval mode."""
    network = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)).train()
    network[1].eval()
    with in_eval_mode(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == [True, True, False]
