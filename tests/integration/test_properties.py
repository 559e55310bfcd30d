"""Properties that must hold for any input; hypothesis searches for counterexamples."""

import contextlib

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch.nn import functional as F

from helpers import TINY, joined, write_wav
from vc_lightning.audio import pitch, voice_activity
from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.audio.pitch import PitchRange
from vc_lightning.commands.support import overrides
from vc_lightning.common.errors import InputError
from vc_lightning.data.crops.order import EpochBatches
from vc_lightning.models import checkpoints
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import Card
from vc_lightning.models.vocoders.wavernn import batched_generation
from vc_lightning.models.vocoders.wavernn.distributions import mu_law_decode, mu_law_encode
from vc_lightning.models.vocoders.wavernn.pqmf import PQMF
from vc_lightning.training.losses import autovc_losses, valid_elements
from vc_lightning.training.schedulers import noam_factor

settings.register_profile(
    "here",
    deadline=None,
    derandomize=True,  # the same examples everywhere, so that failures are reproducible
    database=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("here")

RATES = st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
SEEDS = st.integers(0, 2**32 - 1)


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# Sound -------------------------------------------------------------------------------------------


@given(st.integers(0, 40_000), RATES, RATES, SEEDS)
def test_resampling_keeps_the_duration(n_samples, before, after, seed):
    wav = io.resample(0.1 * noise(seed, n_samples), before, after)
    assert abs(len(wav) - n_samples * after / before) <= 1
    assert wav.dtype == np.float32
    assert np.isfinite(wav).all()


@given(st.integers(1, 20_000), st.floats(1e-3, 8), SEEDS, RATES)
def test_saved_sound_round_trips(tmp_path, n_samples, peak, seed, rate):
    wav = noise(seed, n_samples)
    wav *= peak / np.abs(wav).max()
    again, read_rate = io.load(io.save(tmp_path / "a.wav", wav, rate))
    assert read_rate == rate
    np.testing.assert_allclose(again, wav / max(peak, 1), atol=1.5 / 2**15)


@given(st.integers(1, 12), st.integers(1, 500), SEEDS)
def test_order_of_channels_does_not_matter(tmp_path, n_channels, n_samples, seed):
    channels = noise(seed, n_samples, n_channels)

    def loaded(channels):
        return io.load(write_wav(tmp_path / "a.wav", channels, subtype="FLOAT"))[0]

    wav = loaded(channels)
    assert wav.shape == (n_samples,)
    np.testing.assert_allclose(loaded(channels[:, ::-1]), wav, atol=1e-6)
    np.testing.assert_allclose(loaded(np.repeat(wav[:, None], n_channels, 1)), wav, atol=1e-6)


@given(st.floats(-60, 30), st.floats(-40, -6))
def test_level_is_independent_of_loudness(speech, gain, dbfs):
    leveled = voice_activity.level(speech, 16_000, dbfs)
    again = voice_activity.level(voice_activity.amplify(speech, gain), 16_000, dbfs)
    np.testing.assert_allclose(again, leveled, rtol=1e-3, atol=1e-6)


@settings(max_examples=15)
@given(st.floats(2, 9), st.integers(0, 120_000), RATES)
def test_segments_cover_recording(speech, other_speech, max_seconds, start, rate):
    wav = io.resample(np.concatenate([other_speech, speech])[start:], 16_000, rate)
    pieces = voice_activity.cut_at_pauses(wav, rate, max_seconds)
    ends = [0, *(stop for _, stop in pieces)]
    assert ends == [*(start for start, _ in pieces), len(wav)]
    assert all(0 < stop - start <= max_seconds * rate + 1 for start, stop in pieces)


@settings(max_examples=20)
@given(st.integers(8_000, 30_000), st.floats(-60, 20), st.integers(0, 60_000))
def test_mel_range_and_length(speech, mel_settings, n_samples, gain, start):
    mel = MelSpectrogram(**mel_settings)
    wav = voice_activity.amplify(speech[start:][:n_samples], gain)
    values = mel(torch.from_numpy(wav)[None])
    assert values.shape == (1, mel.n_mels, len(wav) // mel.hop_length + 1)
    assert ((values >= 0) & (values <= 1)).all()


@given(st.integers(1, 40), st.sampled_from([2, 4, 5]), SEEDS)
def test_pqmf_round_trips(length, bands, seed):
    filterbank = PQMF(bands)
    margin = -(-filterbank.reach // bands)
    wav = torch.from_numpy(noise(seed, 1, length * bands))
    wav = F.pad(wav, (2 * margin * bands, 2 * margin * bands))
    again = joined(filterbank, filterbank.analyse(wav))
    assert again.shape == wav.shape
    assert (again - wav).square().mean() < 1e-5 * wav.square().mean()


@given(st.integers(2, 12), st.integers(0, 10_000))
def test_mu_law_classes_round_trip(bits, number):
    number %= 2**bits
    wav = mu_law_decode(torch.tensor([number]), 2**bits)
    assert wav.abs() <= 1
    assert mu_law_encode(wav, 2**bits).item() == number


@given(st.integers(1, 8), st.integers(5, 40), st.integers(2, 20), SEEDS)
def test_length_of_spliced_folds(n_segments, frames, hop_length, seed):
    length = (frames + batched_generation.OVERLAP) * hop_length
    segments = [0.1 * torch.from_numpy(noise(seed + i, 2, length)) for i in range(n_segments)]
    wav = torch.cat(list(batched_generation.splice(segments, hop_length)), dim=1)
    max_lag = int(batched_generation.MAX_LAG * hop_length) if n_segments > 1 else 0
    whole = (n_segments * frames + batched_generation.OVERLAP) * hop_length
    assert whole - max_lag * n_segments <= wav.shape[1] <= whole
    assert wav.isfinite().all()


@given(
    st.lists(st.one_of(st.just(0.0), st.floats(70, 400)), min_size=1, max_size=50),
    st.floats(6.5, 8.5),
    st.floats(0.05, 0.4),
    st.floats(6.5, 8.5),
    st.floats(0.75, 1.4),
)
def test_moved_pitch_round_trips(contour, centre, spread, goal, stretch):
    f0 = np.array(contour, dtype=np.float32)
    source, target = PitchRange(centre, spread), PitchRange(goal, spread * stretch)
    np.testing.assert_allclose(pitch.moved(f0, source, source), f0, rtol=1e-4)
    there = pitch.moved(f0, source, target)
    assert ((there > 0) == (f0 > 0)).all()
    inside = (there > pitch.FMIN_HZ * 1.001) & (there < pitch.FMAX_HZ * 0.999)
    back = pitch.moved(there, target, source)
    np.testing.assert_allclose(back[inside], f0[inside], rtol=1e-3)


# Training ----------------------------------------------------------------------------------------


@given(st.integers(1, 10_000))
def test_noam_peaks_after_warmup(warmup):
    assert noam_factor(warmup - 1, warmup) == pytest.approx(1)
    assert noam_factor(4 * warmup - 1, warmup) == pytest.approx(0.5)
    assert noam_factor(0, warmup) == pytest.approx(1 / warmup)


@given(
    st.integers(1, 200),
    st.integers(1, 20),
    st.booleans(),
    SEEDS,
    st.integers(0, 5),
    st.integers(1, 4),
)
def test_an_epoch_has_every_utterance_once(size, batch_size, shuffle, seed, epoch, world_size):
    assume(size >= world_size)
    parts = [
        list(EpochBatches(size, batch_size, shuffle, seed, None, rank, world_size).of_epoch(epoch))
        for rank in range(world_size)
    ]
    drawn = sorted(item[2] for part in parts for batch in part for item in batch)
    assert drawn == list(range(size))
    assert len({len(part) for part in parts}) == 1


@given(st.lists(st.integers(1, 24), min_size=1, max_size=4), st.integers(0, 9), SEEDS)
def test_losses_ignore_padding(lengths, padding, seed):
    size, freq = max(lengths) + padding, 4
    lengths = torch.tensor(lengths)
    valid = valid_elements(lengths, size, freq)
    mels = torch.from_numpy(noise(seed, 3, len(lengths), 5, size))
    codes = torch.from_numpy(noise(seed, 2, len(lengths), 6, -(-size // freq)))
    spoilt = torch.where(valid.frames > 0, mels, 1e6), torch.where(valid.codes > 0, codes, -1e6)
    before = autovc_losses(*mels, *codes, valid)
    after = autovc_losses(*spoilt[0], *spoilt[1], valid)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value)


# Files and command lines -------------------------------------------------------------------------


@settings(max_examples=300)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
@example("it's \\' a [b], {c}=${d} # \\")
@example("\\")
@example("a\nb")
@example("\\${")
@example("a\\\\${b}")
def test_quoted_text_round_trips(text):
    assume(overrides.quote_free_text(f"source={text}") != f"source={text}")  # a list, null, …
    assume(not text.startswith("~"))
    (override,) = OverridesParser.create().parse_overrides(
        [overrides.quote_free_text(f"source={text}")]
    )
    assert OmegaConf.create({"source": override.value()}).source == text


@settings(max_examples=15)
@given(
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 2),
    st.booleans(),
)
def test_networks_of_any_size_round_trip(
    tmp_path, mel_settings, dim_neck, freq, dim_pre, dim_encoder, decoder_layers, f0
):
    sizes = TINY | {"dim_neck": dim_neck, "freq": freq, "dim_pre": dim_pre, "f0": f0}
    sizes |= {"dim_encoder": dim_encoder, "decoder_layers": decoder_layers}
    network = AutoVC(**sizes)
    card = Card("autovc", network.arguments, mel_settings, "ge2e", step=3)
    path = checkpoints.save(tmp_path / "a.safetensors", network.state_dict(), card)
    again, read = checkpoints.read_autovc(path)
    assert read == card
    for key, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)


@settings(max_examples=150)
@given(st.data())
def test_damaged_checkpoint_is_refused_or_finite(tmp_path, tiny_checkpoint, data):
    whole = tiny_checkpoint.read_bytes()
    content = bytearray(whole)
    header = 8 + int.from_bytes(whole[:8], "little")
    for _ in range(data.draw(st.integers(1, 4))):
        stop = data.draw(st.sampled_from([8, header, len(whole)]))
        place = data.draw(st.integers(0, stop - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    with contextlib.suppress(InputError):
        network, _ = checkpoints.read_autovc(path)
        assert all(value.isfinite().all() for value in network.state_dict().values())
