import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch

from helpers import DATA_DEFAULTS, VOCODER_DATA_DEFAULTS, data_module
from vc_lightning.audio import voice_activity
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.errors import InputError
from vc_lightning.data.crops.vocoder import VocoderCrops
from vc_lightning.data.features.reconstruction import reconstruct
from vc_lightning.data.modules.vocoder import VocoderSettings
from vc_lightning.data.modules.voice import VoiceSettings
from vc_lightning.models import checkpoints
from vc_lightning.models.checkpoints import Card

CONTEXT, LENGTH = 3, 10


@pytest.fixture
def module(mel_settings, encoder, cache_dir, corpus):
    """Make vocoder data modules with changed settings, and set them up."""

    def make(**changes):
        settings = VOCODER_DATA_DEFAULTS | {"cache_dir": str(cache_dir), "dir": str(corpus)}
        settings |= {"crop_frames": LENGTH, "context_frames": CONTEXT, "f0": False} | changes
        mel = MelSpectrogram(**mel_settings)
        data = data_module(VocoderSettings, mel, encoder, **settings)
        data.setup()
        return data

    return make


def test_waveform_matches_mel(module):
    data = module(batch_size=4)
    batch = next(iter(data.train_dataloader()))
    n_frames = LENGTH + 2 * CONTEXT
    assert batch.mel.shape == (4, 80, n_frames)
    assert batch.wav.shape == (4, n_frames * 256)
    assert batch.n_frames == 4 * LENGTH
    inner = slice(2, -2)  # frames whose window is inside
    again = data.mel(batch.wav)[..., :-1]
    torch.testing.assert_close(again[..., inner], batch.mel[..., inner], atol=0.02, rtol=0)


def test_crops_are_excerpts(module, speech, mel_settings):
    data = module(sampling="utterance")
    first = next(u for u in data.train if u.speaker == "man" and u.path.stem == "0")
    whole = torch.from_numpy(MelSpectrogram(**mel_settings).prepare(speech[:32_000], 16_000))
    crops = VocoderCrops([data.files.of(first.segment)], LENGTH, CONTEXT, seed=0)
    starts = set()
    for position in range(20):
        wav = crops[0, position, 0].wav
        found = [
            start
            for start in range(-CONTEXT, first.n_frames)
            if torch.allclose(
                torch.nn.functional.pad(whole, (CONTEXT * 256, 9_999))[(start + CONTEXT) * 256 :][
                    : len(wav)
                ],
                wav,
                atol=1e-4,
            )
        ]
        assert len(found) == 1
        starts |= set(found)
    assert len(starts) > 10
    one, other = crops[1, 2, 0], crops[1, 2, 0]
    assert torch.equal(one.mel, other.mel)
    assert torch.equal(one.wav, other.wav)


def crop_of(data, n_frames):
    return VocoderCrops([data.files.of(data.train[0].segment)], n_frames, CONTEXT, seed=0)[0, 0, 0]


def test_crops_are_padded_with_silence(module):
    data = module(crop_frames=300)  # longer than any recording
    mel, wav, _, f0 = crop_of(data, 300)
    n_frames = data.train[0].n_frames
    assert mel.shape == (80, 306)
    assert wav.shape == (306 * 256,)
    assert f0.shape == (306,)
    assert not mel[:, :CONTEXT].any()
    assert not wav[: CONTEXT * 256].any()
    assert mel[:, CONTEXT : CONTEXT + n_frames].any(dim=0).all()
    assert not mel[:, CONTEXT + n_frames :].any()
    assert not wav[(CONTEXT + n_frames) * 256 :].any()


def test_pitch_matches_frames(module):
    data = module(f0=True, crop_frames=300)
    segment = data.train[0].segment
    f0 = crop_of(data, 300).f0
    known = data.files.of(segment).read_f0(0, segment.n_frames)
    assert (known > 0).sum() > 20
    assert torch.equal(f0[CONTEXT : CONTEXT + segment.n_frames], known)
    assert not f0[CONTEXT + segment.n_frames :].any()
    batch = next(iter(data.train_dataloader()))
    assert batch.f0.shape == batch.mel[:, 0].shape


def test_adds_waveforms_to_cache(module, tmp_path, mel_settings, encoder, corpus):
    mel = MelSpectrogram(**mel_settings)
    settings = DATA_DEFAULTS | {"cache_dir": str(tmp_path / "cache"), "dir": str(corpus)}
    plain = data_module(VoiceSettings, mel, encoder, **settings)
    plain.setup()
    contents = [u.segment.content for u in plain.train]
    times = [plain.files.path("mels", content).stat().st_mtime_ns for content in contents]
    assert not plain.files.has("wavs")
    data = module(cache_dir=str(tmp_path / "cache"))
    assert [data.files.path("mels", content).stat().st_mtime_ns for content in contents] == times
    shutil.rmtree(data.files.folders["wavs"])
    again = module(cache_dir=str(tmp_path / "cache"))
    assert {path.stem for path in again.files.folders["wavs"].rglob("*.safetensors")} == set(
        contents
    )


def test_segments_have_their_own_waveform(module, tmp_path, speech, mel_settings):
    (tmp_path / "long").mkdir()
    soundfile.write(tmp_path / "long/a.wav", speech, 16_000)
    data = module(dir=str(tmp_path / "long"), max_seconds=2.5)
    assert len(data.train) > 1
    mel = MelSpectrogram(**mel_settings)
    spans = voice_activity.cut_at_pauses(speech, 16_000, 2.5)
    for utterance in data.train:
        segment = utterance.segment
        start, stop = spans[segment.index]
        prepared = torch.from_numpy(mel.prepare(speech[start:stop], 16_000))
        wav = data.files.of(segment).read_wav(0, segment.n_frames)
        torch.testing.assert_close(wav[: len(prepared)], prepared, atol=1e-4, rtol=0)
        assert not wav[len(prepared) :].any()


def test_mels_reconstructed_by_autovc(module, tiny_autovc, tiny_checkpoint):
    plain, data = module(), module(mels_from=str(tiny_checkpoint))
    utterance = data.train[0]
    segment = utterance.segment
    voice = data.files.of(segment).read_embedding()[None]
    recorded = plain.files.of(segment).read_mel(0, segment.n_frames)
    with torch.no_grad():
        expected = tiny_autovc(recorded[None], voice, voice)[1][0].clamp(0, 1)
    reconstructed = data.reconstructed.of(segment).read_mel(0, segment.n_frames)
    torch.testing.assert_close(reconstructed, expected, atol=1e-3, rtol=0)
    assert not torch.allclose(reconstructed, recorded, atol=0.05)
    batch, recordings = (next(iter(one.train_dataloader())) for one in (data, plain))
    assert torch.equal(batch.wav, recordings.wav)
    assert not torch.isclose(batch.mel, recordings.mel).flatten(1).all(dim=1).any()
    # Reconstructions of other weights are in another folder.
    path = Path(tiny_checkpoint)
    state = {key: value + 0.01 for key, value in tiny_autovc.state_dict().items()}
    card = Card("autovc", tiny_autovc.arguments, data.mel.settings)
    checkpoints.save(path, state, card)
    assert module(mels_from=str(path)).reconstructed.folders != data.reconstructed.folders


def test_a_share_of_the_crops_has_reconstructed_mels(module, tiny_checkpoint):
    data = module(mels_from=str(tiny_checkpoint), mels_from_share=0.25)
    crops = data.train_dataloader().dataset
    recordings = replace(crops, reconstructed=())
    pairs = [(crops[0, i, 0], recordings[0, i, 0]) for i in range(400)]
    share = sum(not torch.equal(one.mel, other.mel) for one, other in pairs) / len(pairs)
    assert 0.2 < share < 0.3
    assert all(torch.equal(one.wav, other.wav) for one, other in pairs)


def test_refuses_autovc_for_other_mels(module, tiny_autovc, tmp_path, mel_settings):
    card = Card("autovc", tiny_autovc.arguments, mel_settings | {"fmin": 40})
    path = checkpoints.save(tmp_path / "other.safetensors", tiny_autovc.state_dict(), card)
    data = module()
    with pytest.raises(InputError, match="fmin 40 != 90"):
        reconstruct(path, [u.segment for u in data.train], data.files, data.mel)


@pytest.mark.parametrize(
    "changes",
    [
        {"crop_frames": 0},
        {"context_frames": -1},
        {"context_frames": 2**31},
        {"mels_from_share": 1.5},
    ],
)
def test_refuses_impossible_values(module, changes):
    ((name, value),) = changes.items()
    with pytest.raises(InputError, match=f"data.{name}={value}"):
        module(**changes)
