"""WaveRNNs in steps."""

import pytest
import torch

from helpers import tiny_multiband, tiny_wavernn
from vc_lightning.models.vocoders import overlap
from vc_lightning.models.vocoders.wavernn.batched_generation import cut
from vc_lightning.models.vocoders.wavernn.streaming import WaveRNNStream

REACH, N_PAST = 2, 6


@pytest.fixture(params=["RAW", "MOL", "multi-band"])
def network(request):
    """A network in double precision that depends on its past and on its mel."""
    if request.param == "multi-band":
        return tiny_multiband()
    network = tiny_wavernn(request.param)
    network.fc3.weight.data *= 30
    network.input.weight.data *= 30
    return network


def streamed(stream, mel, sizes, n_ahead):
    """The sound of steps of some sizes; the first N_PAST frames are known before them."""
    pieces, n_final, n_out = [], N_PAST, N_PAST
    for n_hops in sizes:
        n_new = n_out + n_hops + REACH - n_final
        start = n_final - N_PAST
        seen = mel[..., start : n_final + n_new + n_ahead].clone()
        if n_final > N_PAST:
            seen[..., :N_PAST] = 0.5  # what was committed counts, not what it would be now
        pieces.append(stream.step(seen, N_PAST, n_new, n_hops))
        assert len(pieces[-1]) == n_hops * stream.vocoder.hop_length
        n_final, n_out = n_final + n_new, n_out + n_hops
    return torch.cat(pieces)


@torch.inference_mode()
@pytest.mark.parametrize("sizes", [(5, 5, 1, 12, 30, 7), (1,) * 60, (60,)])
def test_steps_are_the_sound_of_the_whole(network, sizes):
    torch.manual_seed(0)
    mel = torch.rand(1, 5, N_PAST + 70).double()
    stream = overlap.stream(network, network.hop_length, REACH, seed=3)
    assert isinstance(stream, WaveRNNStream)
    wav = streamed(stream, mel, sizes, network.pad + stream.n_ahead - REACH)
    window = cut(mel, N_PAST - network.pad, mel.shape[-1] + network.pad)
    whole = network.recur(window, [torch.Generator().manual_seed(3)])[0]
    assert wav.std() > 1e-3
    torch.testing.assert_close(wav, whole[: len(wav)])


@torch.inference_mode()
def test_nothing_grows(network):
    stream = WaveRNNStream(network, REACH, seed=0)

    def held():
        values = [value for part in (stream, stream.running) for value in vars(part).values()]
        values += vars(getattr(stream.running, "steps", stream)).values()
        tensors = [v for v in values if isinstance(v, torch.Tensor)]
        return sum(v.untyped_storage().nbytes() for v in tensors)

    sizes = []
    for _ in range(20):
        stream.step(torch.rand(1, 5, 15).double(), 6, 5, 5)
        sizes.append(held())
    assert sizes[-1] == sizes[1]


@torch.inference_mode()
def test_without_a_look_ahead_silence_is_ahead(network):
    mel = torch.rand(1, 5, 30).double()
    stream = WaveRNNStream(network, REACH, seed=0)
    wav = streamed(stream, mel, (4, 4), 0)
    assert wav.isfinite().all()
    assert wav.std() > 1e-3
