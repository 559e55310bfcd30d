import numpy as np
import torch

from vc_lightning.audio.fading import faded


def test_fades_from_the_first_value_to_the_last():
    ending, beginning = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    share = np.array([0, 0.25, 0.5, 0.75, 1])
    expected = (1 - share) * ending.numpy() + share * beginning.numpy()
    np.testing.assert_allclose(faded(ending, beginning), expected, atol=1e-6)
