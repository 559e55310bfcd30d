"""The source-filter vocoder in steps."""

import numpy as np
import pytest
import torch

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.resources import weights
from vc_lightning.models.checkpoints import load_vocoder
from vc_lightning.models.vocoders.base import PAST_FRAMES
from vc_lightning.models.vocoders.source_filter.network import SourceFilter, SourceFilterStream


@torch.inference_mode()
def test_steps_with_a_long_look_ahead_are_the_sound_of_the_whole():
    torch.manual_seed(0)
    network = SourceFilter(80, 256, 16_000, 512, 2, dim=8, n_blocks=1, dim_pitch=8, pitch_blocks=1)
    network.eval().head.weight.data.normal_(std=0.1)
    network.pitch.head.bias.data[30] = 20
    mel = torch.rand(1, 80, 120)
    reach, n_ahead, n_past = 2, network.context, network.context
    stream = SourceFilterStream(network, reach, seed=3)
    pieces, n_final, n_out = [], n_past, n_past  # the frames before the stream are known
    for n_hops in (5, 5, 1, 12, 30, 7):
        n_new = n_out + n_hops + reach - n_final
        start = max(0, n_final - n_past)
        seen = mel[..., start : n_final + n_new + n_ahead]
        pieces.append(stream.step(seen, n_final - start, n_new, n_hops))
        assert len(pieces[-1]) == n_hops * 256
        n_final, n_out = n_final + n_new, n_out + n_hops
    wav = torch.cat(pieces)
    pulse_filter, noise_filter = network.filters(mel)
    first = n_past * 2  # filters before the stream
    n_frames = mel.shape[-1] - n_past
    filters = (
        torch.nn.functional.pad(x[..., first:], (0, 1)) for x in (pulse_filter, noise_filter)
    )
    whole = network.filtered(*sources(network, n_frames), *filters)
    torch.testing.assert_close(wav[512:], whole[0, 512 : len(wav)], atol=1e-4, rtol=1e-3)


def sources(network, n_frames):
    """Pulses and noise of a stream with seed 3."""
    from vc_lightning.models.vocoders.source_filter.excitation import pulse_train

    f0 = network.pitch(torch.rand(1, 80, 1)).expand(1, n_frames + 1)
    pulses, _ = pulse_train(f0, 256, 16_000, torch.zeros(1, dtype=torch.float64))
    noise = torch.randn(pulses.shape, generator=torch.Generator().manual_seed(3))
    return pulses, noise


@pytest.fixture(scope="module")
def vocoder():
    return load_vocoder(weights("source_filter"))


@torch.inference_mode()
def streamed_and_whole(network, speech, n_ahead, seeds):
    """Mels of speech in steps of 64 ms, and as a whole for some seeds."""
    extractor = MelSpectrogram(**network.mel_settings)
    n_step, reach = 4, 2
    mel = torch.from_numpy(extractor.extract(speech, 16_000))[None]
    mel = mel[..., : mel.shape[-1] // n_step * n_step]
    seen = torch.nn.functional.pad(mel, (0, n_step + reach + n_ahead))
    stream, pieces, n_final = network.stream(reach, seed=0), [], 0
    for n_out in range(n_step, mel.shape[-1] + 1, n_step):
        start, stop = max(0, n_final - PAST_FRAMES), n_out + reach
        steps = n_final - start, stop - n_final, n_step
        pieces.append(stream.step(seen[..., start : stop + n_ahead], *steps))
        n_final = stop
    sounds = [torch.cat(pieces), *(network.generate(mel, seed)[0] for seed in seeds)]
    return [extractor.extract(sound.numpy(), 16_000) for sound in sounds]


def test_short_steps_change_less_than_another_noise(vocoder, speech):
    """Steps of 64 ms with 32 ms of look-ahead, the shipped weights, and speech."""
    streamed, whole, other = streamed_and_whole(vocoder, speech, 2, seeds=(0, 1))
    assert np.abs(streamed - whole).mean() < np.abs(other - whole).mean()


def test_steps_that_hear_enough_are_the_whole(vocoder, speech):
    streamed, whole = streamed_and_whole(vocoder, speech, vocoder.context, seeds=(0,))
    assert np.abs(streamed - whole).mean() < 1e-4
