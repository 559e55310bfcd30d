import numpy as np
import pytest
import torch
from conftest import write_wav

from vc_lightning import features
from vc_lightning.errors import InputError
from vc_lightning.features import FeatureCache
from vc_lightning.mel import MelSpectrogram


@pytest.fixture
def cache(tmp_path, mel_settings, encoder):
    return FeatureCache(tmp_path / "cache", MelSpectrogram(**mel_settings), encoder, "ge2e-1")


@pytest.fixture
def recording(tmp_path, speech):
    return write_wav(tmp_path / "a.wav", speech[:32_000], subtype="FLOAT")


def test_entries_hold_the_mel_and_the_embedding(cache, recording, speech, encoder):
    assert cache.prepare([recording], num_workers=0) == {}
    entry = cache.entry(recording)
    mel = cache.mel.extract(speech[:32_000], 16_000)
    assert features.n_frames(entry) == mel.shape[1] == 126
    np.testing.assert_allclose(features.read_mel(entry, 0, 126).numpy(), mel, atol=3e-4)
    np.testing.assert_allclose(features.read_mel(entry, 20, 30).numpy(), mel[:, 20:30], atol=3e-4)
    embedding = encoder.embed_recording(speech[:32_000], 16_000, -24)
    np.testing.assert_array_equal(features.read_embedding(entry).numpy(), embedding)


def test_entries_hold_warped_copies_with_embeddings_of_their_own(cache, recording, speech, encoder):
    warped = FeatureCache(cache.root, cache.mel, encoder, "ge2e-1", warps=[0.8, 1.25])
    warped.prepare([recording], num_workers=0)
    entry = warped.entry(recording)
    assert entry != cache.entry(recording)
    mel = cache.mel
    wav = torch.from_numpy(mel.prepare(speech[:32_000], 16_000))
    prepared = encoder.prepare_recording(speech[:32_000], 16_000, -24)
    for copy, warp in enumerate([1.0, 0.8, 1.25]):
        expected = mel(wav, mel.warped_filters(warp))
        torch.testing.assert_close(
            features.read_mel(entry, 0, 126, copy), expected, atol=3e-4, rtol=0
        )
        embedding = encoder.embed_speech(prepared, warp)
        np.testing.assert_array_equal(features.read_embedding(entry, copy).numpy(), embedding)
    original, *copies = (features.read_embedding(entry, copy) for copy in range(3))
    assert all(original @ copy < 0.85 for copy in copies)  # other voices


def test_what_is_cached_is_not_computed_again(cache, recording):
    cache.prepare([recording], num_workers=0)
    written = cache.entry(recording).stat().st_mtime_ns
    cache.prepare([recording], num_workers=0)
    assert cache.entry(recording).stat().st_mtime_ns == written


def test_a_change_of_recording_settings_or_encoder_gives_another_entry(
    cache, recording, mel_settings, encoder, speech
):
    entry = cache.entry(recording)
    other_mel = MelSpectrogram(**mel_settings | {"level_dbfs": -20})
    assert FeatureCache(cache.root, other_mel, encoder, "ge2e-1").entry(recording) != entry
    assert FeatureCache(cache.root, cache.mel, encoder, "ge2e-2").entry(recording) != entry
    assert FeatureCache(cache.root, cache.mel, encoder, "ge2e-1").entry(recording) == entry
    write_wav(recording, speech[:40_000], subtype="FLOAT")
    assert cache.entry(recording) != entry


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_damaged_entry_is_noticed_and_rebuilt(cache, recording, share):
    cache.prepare([recording], num_workers=0)
    entry = cache.entry(recording)
    content = entry.read_bytes()
    entry.write_bytes(content[: int(share * len(content))])
    assert features.n_frames(entry) is None
    cache.prepare([recording], num_workers=0)
    assert entry.read_bytes() == content


@pytest.mark.parametrize("num_workers", [0, 2])
def test_unusable_recordings_are_named_with_the_reason(cache, recording, tmp_path, num_workers):
    silent = write_wav(tmp_path / "silent.wav", np.zeros(16_000))
    text = tmp_path / "text.wav"
    text.write_text("no sound")
    failures = cache.prepare([recording, silent, text], num_workers)
    assert failures.keys() == {silent, text}
    assert failures[silent].startswith("the recording is silent")
    assert features.n_frames(cache.entry(recording)) == 126


def test_parallel_and_serial_features_are_equal(cache, recording, tmp_path, encoder):
    serial = FeatureCache(tmp_path / "serial", cache.mel, encoder, "ge2e-1")
    serial.prepare([recording], num_workers=0)
    cache.prepare([recording], num_workers=1)
    pair = [c.entry(recording) for c in (serial, cache)]
    torch.testing.assert_close(*(features.read_mel(e, 0, 126) for e in pair), atol=5e-4, rtol=0)
    torch.testing.assert_close(*(features.read_embedding(e) for e in pair), atol=1e-5, rtol=0)


def test_a_cache_that_cannot_be_written_is_refused(tmp_path, cache, recording):
    blocked = tmp_path / "file"
    blocked.write_text("")
    unwritable = FeatureCache(blocked / "cache", cache.mel, cache.speaker_encoder, "ge2e-1")
    with pytest.raises(InputError, match=r"data\.cache_dir"):
        unwritable.prepare([recording], num_workers=0)
