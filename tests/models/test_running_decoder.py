"""Decoding in steps against decoding the whole, which must be the same where nothing is missing."""

import pytest
import torch

from helpers import TINY
from vc_lightning.models import lstm
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.running_decoder import RunningDecoder

N_FRAMES = 96
FREQ = 2


@pytest.fixture
def network():
    """One whose layers all change the mel."""
    torch.manual_seed(0)
    sizes = TINY | {"freq": FREQ, "f0": True, "film": True, "dim_reference": 16}
    made = AutoVC(**sizes).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return made


@pytest.fixture
def said(network):
    """Codes, harmonics, embedding and reference of something that is said."""
    torch.manual_seed(1)
    dim = network.arguments["dim_emb"]
    codes = torch.rand(1, 2 * network.arguments["dim_neck"], N_FRAMES // FREQ)
    own = network.repeat_codes(torch.rand_like(codes), N_FRAMES)
    reference = network.reference.remember(own, torch.rand(1, 80, N_FRAMES))
    return codes, torch.rand(1, 82, N_FRAMES), torch.rand(1, dim), reference


def whole(network, codes, harmonics, embedding, reference):
    mel = network.decode(codes, N_FRAMES, embedding, harmonics)[1]
    return network.refined(codes, mel, reference)


def in_steps(network, said, n_open, n_step):
    """The settled frames of all steps, and all frames of each."""
    codes, harmonics, embedding, reference = said
    running, settled, steps = RunningDecoder(network, n_open), [], []
    for stop in range(n_open + n_step, N_FRAMES + 1, n_step):
        frames = slice(stop - n_open - n_step, stop)
        part = codes[..., frames.start // FREQ : frames.stop // FREQ]
        now = running.decode(part, n_open + n_step, embedding, harmonics[..., frames])[1]
        steps.append(running.refined(part, now, reference))
        settled.append(steps[-1][..., :n_step])
    return torch.cat(settled, dim=-1), steps


def needed(network):
    return network.lookahead + network.reference.reach


@torch.inference_mode()
@pytest.mark.parametrize("n_step", [2, 6, 30])
def test_settled_frames_are_those_of_the_whole(network, said, n_step):
    expected = whole(network, *said)
    settled, _ = in_steps(network, said, needed(network), n_step)
    n = settled.shape[-1]
    assert n >= 60
    torch.testing.assert_close(settled, expected[..., :n], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_the_last_step_ends_as_the_whole(network, said):
    expected = whole(network, *said)[..., -30:]
    _, steps = in_steps(network, said, 24, 6)
    torch.testing.assert_close(steps[-1], expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_the_frames_of_a_step_alone_give_another_mel(network, said):
    """So the tests above would see states and frames that are not kept."""
    codes, harmonics, embedding, reference = said
    alone = network.decode(codes[..., -15:], 30, embedding, harmonics[..., -30:])[1]
    alone = network.refined(codes[..., -15:], alone, reference)
    assert (alone - whole(network, *said)[..., -30:])[..., :12].abs().max() > 1e-3


@torch.inference_mode()
@pytest.mark.parametrize("has_amx", [False, True])
def test_a_wide_lstm_goes_on_from_exact_states(monkeypatch, has_amx):
    monkeypatch.setattr(lstm, "HAS_AMX", has_amx)
    torch.manual_seed(0)
    wide = torch.nn.LSTM(8, lstm.MIN_WIDTH, batch_first=True)
    x = torch.randn(2, 12, 8)
    outputs, states = lstm.run_on(wide, x[:, :7], None, 5)
    more, _ = lstm.run_on(wide, x[:, 5:], states, 6)
    expected, _ = wide(x)
    torch.testing.assert_close(outputs[:, :5], expected[:, :5])
    torch.testing.assert_close(more[:, :6], expected[:, 5:11])  # settled: in float32
    tolerance = 0.01 if has_amx else 1e-6
    torch.testing.assert_close(more[:, 6:], expected[:, 11:], atol=tolerance, rtol=0)
