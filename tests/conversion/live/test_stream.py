"""Live conversion: every sample comes back, whatever the blocks, and nothing breaks or grows."""

import numpy as np
import pytest
import torch

from helpers import TINY
from vc_lightning import VoiceConverter
from vc_lightning.audio.pitch import PitchRange
from vc_lightning.common.errors import InputError
from vc_lightning.common.resources import settings
from vc_lightning.conversion.live.resampling import StreamResampler
from vc_lightning.conversion.live.source import RunningPitch, RunningSource
from vc_lightning.conversion.live.stream import MAX_AMPLITUDE, REMEMBERED_SECONDS
from vc_lightning.conversion.mel_converter import MelConverter
from vc_lightning.models import checkpoints, pitch_tracker
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.files.formats import Card
from vc_lightning.models.speaker_encoder import similarity
from vc_lightning.models.vocoders import factory
from vc_lightning.models.vocoders.griffin_lim.vocoder import GriffinLimStream


@pytest.fixture(scope="module")
def converter():
    return VoiceConverter.from_pretrained()


@pytest.fixture(scope="module")
def voice(converter, other_speech):
    return converter.voice(other_speech)


@pytest.fixture
def quick(tiny_checkpoint):
    """A converter whose network is tiny; its words are noise, its bookkeeping is the same."""
    return VoiceConverter.from_checkpoint(tiny_checkpoint)


def converted(stream, wav, sizes):
    """All that a stream returns for wav in blocks of the sizes, over and over."""
    pieces, start, index = [], 0, 0
    while start < len(wav):
        size = sizes[index % len(sizes)]
        pieces.append(stream.push(wav[start : start + size]))
        start, index = start + size, index + 1
    return np.concatenate([*pieces, stream.flush()])


@pytest.mark.parametrize(("from_rate", "to_rate"), [(48_000, 16_000), (16_000, 44_100)])
def test_resampling_keeps_a_tone_and_its_time(from_rate, to_rate):
    def tone(rate):
        return np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32)

    resampler = StreamResampler(from_rate, to_rate)
    blocks = np.split(tone(from_rate), [1, 1, 700, 20_000 * from_rate // 48_000])
    blocks.append(np.zeros(resampler.delay, np.float32))
    wav = np.concatenate([resampler.push(block) for block in blocks])
    assert len(wav) == to_rate
    assert np.abs(wav - tone(to_rate))[100:-100].max() < 1e-3


@pytest.mark.parametrize(
    ("lengths", "latency", "difference"), [((0.16, 0.19), 0.4, 0.015), ((None, None), 0.18, 0.022)]
)
def test_a_stream_agrees_with_the_offline_conversion(
    converter, voice, speech, lengths, latency, difference
):
    offline = converter.convert_to(speech, voice)
    block, lookahead = lengths
    speaker = converter.voice(speech)
    stream = converter.stream(voice, block, lookahead_seconds=lookahead, source=speaker)
    wav = converted(stream, speech, [stream.block_samples])
    assert stream.latency_seconds <= latency
    assert len(wav) == len(speech)
    embeddings = [converter.embed(recording) for recording in (wav, offline)]
    near, offline_near = (similarity(one, voice.embedding) for one in embeddings)
    assert near > offline_near - 0.03
    # Files are heard by the recogniser, so the sound is compared with that of a stream of one step.
    one_step = converter.stream(voice, 7.0, source=speaker)
    whole = converted(one_step, speech, [len(speech)])
    mels = [converter.mel.extract(recording, 16_000) for recording in (wav, whole)]
    shifted = np.abs(mels[0][:, 8:] - mels[1][:, :-8]).mean()
    assert np.abs(mels[0] - mels[1]).mean() < difference < 0.1 < shifted  # nothing is out of time


@torch.inference_mode()
def test_a_step_has_forgotten_what_is_older_than_its_context(converter, voice, speech):
    """Without the recogniser, codes that know a second of mel before a step are as good as any."""
    networks, speaker = converter.networks, converter.voice(speech)
    mel = torch.from_numpy(converter.mel.extract(speech, 16_000))[None]
    f0 = pitch_tracker.track(speech, 16_000, 256)
    made = MelConverter(networks.autovc, networks.mel)
    n_step, n_remembered = 14, round(REMEMBERED_SECONDS * 62.5)
    for stop in (150, 200, 260, 320):
        heard = slice(stop - n_step - 126, stop)
        codes = made.encode_live(mel[..., heard], speaker)
        few = made.encode_live(mel[..., stop - n_step - n_remembered : stop], speaker)
        n_codes = n_step // networks.autovc.freq
        steps = []
        for newest in (codes, few):
            codes = torch.cat([codes[..., :-n_codes], newest[..., -n_codes:]], dim=-1)
            decoder = made.live_decoder(n_step)
            mels = made.decode_live(decoder, codes, f0[heard], speaker, voice)
            steps.append(mels[..., -n_step:])
        assert 0 < (steps[0] - steps[1]).abs().mean() < 5e-4


def test_a_stream_that_listens_has_the_codes_of_the_recogniser(converter, voice, speech):
    """With steps as long as the recording it is the conversion of the file, but for the level."""
    speaker = converter.voice(speech)
    offline = converter.mel.extract(converter.convert_to(speech, voice), 16_000)
    difference = {}
    for listens in (True, False):
        stream = converter.stream(voice, 7.0, listens=listens, source=speaker)
        assert stream.listens == listens
        wav = converted(stream, speech, [len(speech)])
        difference[listens] = np.abs(converter.mel.extract(wav, 16_000) - offline).mean()
    assert difference[True] < 0.75 * difference[False]


def test_a_stream_listens_to_the_same_sound_again(converter, voice, speech):
    """Every step hears the sound before it: short steps say what one long step says."""
    speaker = converter.voice(speech)
    streams = [converter.stream(voice, s, listens=True, source=speaker) for s in (0.16, 7.0)]
    mels = [
        converter.mel.extract(converted(stream, speech, [len(speech)]), 16_000)
        for stream in streams
    ]
    shifted = np.abs(mels[0][:, 8:] - mels[1][:, :-8]).mean()
    assert np.abs(mels[0] - mels[1]).mean() < 0.4 * shifted


def test_the_recogniser_alone_hears_a_recording_of_the_speaker_first(converter, voice, speech):
    earlier, later = speech[:64_000], speech[64_000:]
    for listens in (True, False):
        streams = [
            converter.stream(voice, 0.16, listens=listens, earlier=known)
            for known in (None, *map(converter.end_of_speech, (earlier, 0.1 * earlier)))
        ]
        new, known, soft = (converted(stream, later, [len(later)]) for stream in streams)
        assert len(known) == len(later)
        assert np.array_equal(known, new) != listens
        mels = [converter.mel.extract(wav, 16_000) for wav in (new, known, soft)]
        assert np.abs(mels[2] - mels[1]).mean() <= 0.3 * np.abs(mels[0] - mels[1]).mean()


def test_of_a_recording_of_the_speaker_the_end_of_the_speech_is_heard(converter, speech):
    end = converter.end_of_speech
    with_pause = np.concatenate([speech, np.zeros(48_000, np.float32)])
    whole = end(with_pause)
    assert 0 <= len(speech) - len(whole) < 8000
    assert np.corrcoef(whole, speech[: len(whole)])[0, 1] > 0.95
    np.testing.assert_allclose(end(0.1 * with_pause), whole, atol=1e-4)
    assert len(end(np.tile(speech, 2))) == 10 * 16_000
    with pytest.raises(InputError, match="silent"):
        end(np.zeros(32_000, np.float32))


def test_a_network_that_reads_mels_does_not_listen(quick, voice):
    assert not quick.stream(voice, listens=True).listens


@pytest.mark.parametrize("block_seconds", [0.016, 0.064, 0.352, 0.48])
def test_a_step_may_be_shorter_or_longer_than_a_code(tmp_path, mel_settings, speech, block_seconds):
    """As of the published network, whose codes have 32 frames."""
    network = AutoVC(**TINY | {"freq": 32})
    identity = VoiceConverter.from_pretrained().card.speaker_encoder
    card = Card("autovc", network.arguments, mel_settings, identity)
    path = checkpoints.save(tmp_path / "rare.safetensors", network.state_dict(), card)
    rare = VoiceConverter.from_checkpoint(path)
    stream = rare.stream(rare.voice(speech), block_seconds)
    wav = converted(stream, speech, [1000])
    assert len(wav) == len(speech)
    assert np.isfinite(wav).all()


def test_blocks_of_any_size_give_the_same_sound(quick, voice, speech):
    wavs = [
        converted(quick.stream(voice), speech[:40_000], sizes)
        for sizes in ([2560], [0, 1, 333, 5000], [40_000])
    ]
    assert np.array_equal(wavs[0], wavs[1])
    assert np.array_equal(wavs[0], wavs[2])


def test_samples_come_back_exactly_at_the_stated_latency(quick, voice, speech):
    stream = quick.stream(voice)
    n_piece, n_out, waits = 16, 0, []
    for stop in range(n_piece, len(speech), n_piece):
        n_made = len(stream.push(speech[stop - n_piece : stop]))
        if n_made:  # the first of them is the one that waited longest
            waits.append((stop - n_out) / 16_000)
        n_out += n_made
    assert max(waits) == pytest.approx(stream.latency_seconds, abs=n_piece / 16_000)


@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
def test_as_many_samples_come_out_as_went_in_at_any_rate(quick, voice, rate):
    noise = 0.1 * np.random.default_rng(0).standard_normal(rate + 17).astype(np.float32)
    wav = converted(quick.stream(voice, sample_rate=rate), noise, [rate // 7])
    assert len(wav) == rate + 17
    assert wav.dtype == np.float32


def test_nothing_in_gives_nothing_out(quick, voice):
    stream = quick.stream(voice)
    assert len(stream.push(np.zeros(0, np.float32))) == 0
    assert len(stream.flush()) == 0
    with pytest.raises(InputError, match="flushed"):
        stream.push(np.zeros(1, np.float32))


def test_broken_samples_are_replaced(quick, voice, speech):
    """Those that are not finite by silence, those far above full scale by the largest allowed."""
    broken = speech[:32_000].astype(np.float64)
    repaired = broken.copy()
    broken[1000:1004] = [np.nan, np.inf, -1e300, 1e4]
    repaired[1000:1004] = [0, 0, 0, MAX_AMPLITUDE]
    wav = converted(quick.stream(voice), broken, [2560])
    assert np.isfinite(wav).all()
    assert np.array_equal(wav, converted(quick.stream(voice), repaired, [2560]))


def test_silence_stays_finite_and_nothing_grows(quick, voice):
    stream = quick.stream(voice)
    silence = np.zeros(64 * stream.block_samples, np.float32)  # 10 s; the same blocks every time

    def held():
        values = [*vars(stream).values(), *vars(stream._vocoder).values()]
        values += vars(stream._source).values()
        return sum(len(v.ravel()) for v in values if isinstance(v, np.ndarray)) + sum(
            v.numel() for v in values if isinstance(v, torch.Tensor)
        )

    stream.push(silence)
    before = held()
    wav = stream.push(silence)
    assert np.isfinite(wav).all()
    assert held() <= before + 640  # one number per hop would be more


@pytest.mark.parametrize(
    ("block", "words"), [(np.zeros((2, 2), np.float32), "shape"), (np.zeros(2, np.int16), "int16")]
)
def test_blocks_that_are_no_mono_floats_are_refused(quick, voice, block, words):
    with pytest.raises(InputError, match=words):
        quick.stream(voice).push(block)


@pytest.mark.parametrize(
    "setting", [{"block_seconds": 0}, {"sample_rate": 4000}, {"lookahead_seconds": -1}]
)
def test_settings_out_of_range_are_refused_by_name(quick, voice, setting):
    with pytest.raises(InputError, match=next(iter(setting))):
        quick.stream(voice, **setting)


def test_the_level_follows_speech_without_a_jump(encoder, speech):
    source = RunningSource(encoder, -24, np.zeros(256, np.float32), is_known=True)
    gains = []
    for start in range(0, len(speech), 2560):
        source.push(speech[start : start + 2560] / 10)
        gains.append(source.gain_db)
    assert np.abs(np.diff(gains)).max() < 40 * 0.2
    assert source.speech_dbfs == pytest.approx(-42, abs=2)  # 20 dB below that of the recording


def test_a_very_quiet_microphone_is_found_and_steady_noise_is_not_speech(encoder, speech):
    def level(wav):
        source = RunningSource(encoder, -24, np.zeros(256, np.float32), is_known=True)
        for start in range(0, len(wav), 2560):
            source.push(wav[start : start + 2560])
        return source.speech_dbfs

    assert level(speech * 10 ** (-36 / 20)) == pytest.approx(-57, abs=3)  # 36 dB below its own
    noise = np.random.default_rng(0).normal(0, 10 ** (-60 / 20), 160_000).astype(np.float32)
    assert level(noise) > -45


def test_the_embedding_comes_to_that_of_the_speaker(encoder, speech, other_speech):
    other = encoder.embed_recording(other_speech, 16_000, -24)
    source = RunningSource(encoder, -24, other, is_known=False)
    for start in range(0, len(speech), 2560):
        source.push(speech[start : start + 2560])
    assert similarity(source.embedding, encoder.embed_recording(speech, 16_000, -24)) > 0.9


def test_the_pitch_range_is_learned_from_what_is_voiced():
    running = RunningPitch(None)
    assert running.range is None
    running.push(np.array([0, 0, 200, 200, 200], np.float32))
    assert running.range.centre == pytest.approx(np.log2(200))
    assert running.range.spread == pytest.approx(0.25 * 60 / 63)
    known = RunningPitch(PitchRange(7.0, 0.2))
    known.push(np.full(1000, 400, np.float32))
    assert known.range == PitchRange(7.0, 0.2)


def test_steps_of_the_vocoder_meet_without_a_click(converter, speech):
    mel = torch.from_numpy(converter.mel.extract(speech, 16_000))[None]
    griffin_lim = factory.griffin_lim(converter.mel, **settings("vocoder", "griffin_lim"))
    vocoder = GriffinLimStream(griffin_lim, seed=0)
    pieces, n_final = [], 0
    with torch.inference_mode():
        for n_hops in range(10, 150, 10):
            n_new, n_past = n_hops + 2 - n_final, min(8, n_final)
            part = mel[..., n_final - n_past : n_hops + 8]
            pieces.append(vocoder.step(part, n_past, n_new, 10))
            n_final += n_new
    wav = torch.cat(pieces)
    steps = wav.diff().abs()
    seams = steps[2559::2560]
    assert wav.std() > 0.01
    assert seams.max() < steps.quantile(0.999)
