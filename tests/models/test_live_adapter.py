"""What the recogniser learned of speech that goes on, merged into its weights."""

import copy

import numpy as np
import pytest
import torch

from vc_lightning.common import resources
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import load_autovc, load_live_adapter
from vc_lightning.models.live_adapter import LiveAdapter
from vc_lightning.models.recogniser import Recogniser
from vc_lightning.models.running_recogniser import RunningRecogniser

STEP = 1280  # samples: 80 ms
DELAY = 1792  # samples that a stream knows after a step
REMEMBERED = 48  # frames of the mel
HOP = 256


@pytest.fixture(scope="module")
def network() -> AutoVC:
    return load_autovc(resources.AUTOVC)


def small_recogniser(dim: int = 8) -> Recogniser:
    torch.manual_seed(0)
    return Recogniser(n_mels=80, dim=dim, n_layers=1, n_heads=2).eval()


def test_changes_are_added_to_the_weights():
    recogniser = small_recogniser()
    before = copy.deepcopy(recogniser.state_dict())
    adapter = LiveAdapter(dim=8, n_layers=1, rank=2)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    made = adapter.adapted(recogniser)
    assert all(torch.equal(value, before[name]) for name, value in recogniser.state_dict().items())
    change = adapter.layers[0].products["ffn2"]
    rows = torch.randn(3, 32)
    expected = recogniser.layers[0].ffn2(rows) + change.of(rows)
    torch.testing.assert_close(made.layers[0].ffn2(rows), expected)
    assert torch.equal(made.norm.bias, adapter.norm.bias)
    assert torch.equal(made.layers[0].ffn_norm.weight, adapter.layers[0].ffn_norm.weight)
    assert torch.equal(made.conv2.weight, recogniser.conv2.weight)


def test_a_recogniser_of_other_sizes_stays_as_it_is():
    recogniser = small_recogniser(dim=16)
    assert LiveAdapter(dim=8, n_layers=1, rank=2).adapted(recogniser) is recogniser


def test_bfloat16_stays_bfloat16():
    recogniser = small_recogniser().use_bfloat16()
    adapter = LiveAdapter(dim=8, n_layers=1, rank=2)
    torch.nn.init.normal_(adapter.layers[0].products["qkv"].up)
    made = adapter.adapted(recogniser)
    assert made.layers[0].qkv.weight.dtype == torch.bfloat16
    assert not torch.equal(made.layers[0].qkv.weight, recogniser.layers[0].qkv.weight)


def error_of_codes(
    network: AutoVC, listener: Recogniser, recogniser: Recogniser, wav: np.ndarray
) -> float:
    """Error of the codes that a stream decodes next, as a share of the variance of the file's."""
    rate = 16_000 / HOP
    frames = len(wav) // HOP // 2 * 2
    running, errors, decoded = RunningRecogniser(listener, 4.0), [], []

    def codes(features: np.ndarray) -> torch.Tensor:
        with torch.inference_mode():
            return network.encode(torch.from_numpy(features.T)[None], None)[0]

    whole = codes(recogniser.hear(wav, frames, rate))
    running.push(wav[:DELAY])
    for stop in range(STEP, len(wav) - DELAY, STEP):
        running.push(wav[stop - STEP + DELAY : stop + DELAY])
        last = (stop // HOP + 6) // 2 * 2  # frames that the stream knows
        if last < REMEMBERED:
            continue
        heard = running.features((last - REMEMBERED) / rate, REMEMBERED, rate)
        decoded.append(whole[:, last // 2 - 6 : last // 2 - 3])
        errors.append(codes(heard)[:, -6:-3] - decoded[-1])
    variance = torch.cat(decoded, dim=1).var(dim=1).mean()
    return float(torch.cat(errors, dim=1).square().mean() / variance)


def test_codes_of_a_stream_are_closer_to_those_of_the_file(
    network, recogniser, speech, other_speech
):
    listener = load_live_adapter().adapted(recogniser)
    for wav in (speech, other_speech):
        plain = error_of_codes(network, recogniser, recogniser, wav)
        adapted = error_of_codes(network, listener, recogniser, wav)
        assert 0.05 < adapted < 0.85 * plain < 0.5
