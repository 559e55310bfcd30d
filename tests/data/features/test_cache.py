import json
import multiprocessing
import os
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helpers import NEEDS, RECORDINGS_DEFAULTS, write_wav
from vc_lightning.audio import voice_activity
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.errors import InputError
from vc_lightning.data import settings as settings_module
from vc_lightning.data.features import cache as features
from vc_lightning.data.features.cache import RECORDINGS_AT_ONCE, FeatureCache
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.data.settings import RecordingSettings
from vc_lightning.models.recogniser import Recogniser


@pytest.fixture
def make_cache(tmp_path, mel_settings, encoder):
    """Make caches with other settings, by default in the same folder."""

    def make(settings=mel_settings, identity="ge2e-1", root=tmp_path / "cache", **changes):
        needed = {name: changes.pop(name) for name in NEEDS & changes.keys()}
        needs = FeatureNeeds(MelSpectrogram(**settings), encoder, identity, **needed)
        return FeatureCache(root, needs, **changes)

    return make


@pytest.fixture
def cache(make_cache):
    return make_cache()


@pytest.fixture
def recording(tmp_path, speech):
    return write_wav(tmp_path / "a.wav", speech[:32_000], subtype="FLOAT")


def prepared(cache, path):
    """Prepare one recording, and return its segments."""
    segments, unusable = cache.prepare([path], num_workers=0)
    assert unusable == {}
    return segments[path]


def written(cache, kind):
    """Return the modification times of all files in the cache's folders <kind>…."""
    files = (p for d in cache.root.glob(f"{kind}*") for p in d.rglob("*") if p.is_file())
    return {path: path.stat().st_mtime_ns for path in files}


def test_cache_has_mel_and_embedding(cache, recording, speech, encoder):
    (segment,) = prepared(cache, recording)
    mel = cache.mel.extract(speech[:32_000], 16_000)
    assert segment.n_frames == mel.shape[1] == 126
    read = cache.files.of(segment).read_mel
    np.testing.assert_allclose(read(0, 126).numpy(), mel, atol=3e-4)
    np.testing.assert_allclose(read(20, 30).numpy(), mel[:, 20:30], atol=3e-4)
    embedding = encoder.embed_recording(speech[:32_000], 16_000, -24)
    assert cache.files.of(segment).read_embedding().numpy() @ embedding > 0.99999


def test_embeddings_of_vtlp_copies(make_cache, recording, speech, encoder):
    cache = make_cache(vtlp_factors=[0.8, 1.25])
    (segment,) = prepared(cache, recording)
    mel = cache.mel
    wav = torch.from_numpy(mel.prepare(speech[:32_000], 16_000))
    leveled = voice_activity.level(speech[:32_000], 16_000, -24)
    for_voice = encoder.mel.prepare(leveled, 16_000)
    for copy, factor in enumerate([1.0, 0.8, 1.25]):
        expected = mel(wav, mel.vtlp_filters(factor))
        found = cache.files.of(segment).read_mel(0, 126, copy)
        torch.testing.assert_close(found, expected, atol=3e-4, rtol=0)
        embedding = encoder.embed_speech(for_voice, factor)
        assert cache.files.of(segment).read_embedding(copy).numpy() @ embedding > 0.99999
    original, *copies = (cache.files.of(segment).read_embedding(copy) for copy in range(3))
    assert all(original @ copy < 0.85 for copy in copies)  # other voices


def test_bfloat16_embeddings_are_nearly_equal(make_cache, recording, tmp_path):
    (segment,) = prepared(make_cache(), recording)
    voices = [make_cache(bf16=bf16) for bf16 in (False, True)]
    for cache in voices:
        prepared(cache, recording)
    exact, fast = (cache.files.of(segment).read_embedding() for cache in voices)
    assert exact @ fast > 0.999
    assert not torch.equal(exact, fast)


def test_reuses_cached_features(cache, recording):
    prepared(cache, recording)
    before = written(cache, "")
    prepared(cache, recording)
    assert written(cache, "") == before


def test_new_modification_time_only_hashes_content(cache, recording):
    prepared(cache, recording)
    before = {kind: written(cache, kind) for kind in ("mels", "voices", "paths")}
    os.utime(recording, ns=(1, 1))
    prepared(cache, recording)
    assert written(cache, "mels") == before["mels"]
    assert written(cache, "voices") == before["voices"]
    assert written(cache, "paths") != before["paths"]
    content = recording.read_bytes()
    recording.unlink()
    recording.with_name("moved.wav").write_bytes(content)
    prepared(cache, recording.with_name("moved.wav"))
    assert written(cache, "mels") == before["mels"]


def test_recomputes_changed_recording(cache, recording, speech):
    prepared(cache, recording)
    write_wav(recording, speech[:40_000], subtype="FLOAT")
    assert prepared(cache, recording)[0].n_frames == 40_000 // 256 + 1


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"identity": "ge2e-2"}, "mels"),
        ({"settings": {"ref_db": 20}}, "voices"),
        ({"vtlp_factors": [0.9]}, "both"),
        ({"max_seconds": 20.0}, "neither"),
        ({"bf16": True}, "mels"),
    ],
)
def test_changed_settings_recompute_what_changed(
    cache, make_cache, mel_settings, recording, changes, kept
):
    prepared(cache, recording)
    before = {kind: written(cache, kind) for kind in ("mels", "voices")}
    if "settings" in changes:
        changes = {"settings": mel_settings | changes["settings"]}
    other = make_cache(**changes)
    assert other.lookup(recording) is None
    prepared(other, recording)
    after = {kind: written(other, kind) for kind in ("mels", "voices")}
    assert all(after[kind].items() >= before[kind].items() for kind in before)
    new = {kind for kind in before if after[kind] != before[kind]}
    expected = {"mels": {"voices"}, "voices": {"mels"}}
    assert new == expected.get(kept, {"mels", "voices"})
    assert prepared(cache, recording)  # and the old features are still there


@pytest.mark.parametrize("kind", ["mels", "voices"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_rebuilds_damaged_file(cache, recording, kind, share):
    prepared(cache, recording)
    (path,) = written(cache, kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert cache.lookup(recording) is None
    prepared(cache, recording)
    assert path.read_bytes() == content


def test_names_file_deleted_during_training(cache, recording):
    (segment,) = prepared(cache, recording)
    (path,) = written(cache, "mels")
    path.unlink()
    with pytest.raises(InputError, match=f"{path.name}.*start again"):
        cache.files.of(segment).read_mel(0, 10)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_names_unusable_recordings(cache, recording, tmp_path, num_workers):
    silent = write_wav(tmp_path / "silent.wav", np.zeros(16_000))
    text = tmp_path / "text.wav"
    text.write_text("no sound")
    missing = tmp_path / "missing.wav"
    segments, unusable = cache.prepare([recording, silent, text, missing], num_workers)
    assert unusable.keys() == {silent, text, missing}
    assert unusable[silent].startswith("the recording is silent")
    assert segments.keys() == {recording}


def test_remembers_recordings_without_speech(cache, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    noise = write_wav(tmp_path / "noise.wav", 0.001 * rng.standard_normal(32_000))
    first = cache.prepare([noise], 0)[1]
    monkeypatch.setattr(FeatureCache, "compute", None)  # must not be called
    assert cache.prepare([noise], 0)[1] == first
    assert "no speech" in first[noise]


def test_reuses_quality_with_other_settings(make_cache, tmp_path, monkeypatch):
    """The quality is not measured again, and the reason stored for the old settings is kept."""
    rng = np.random.default_rng(0)
    noise = write_wav(tmp_path / "noise.wav", 0.001 * rng.standard_normal(32_000))
    one, other = make_cache(), make_cache(identity="ge2e-2")
    one.prepare([noise], 0)
    monkeypatch.setattr(features, "measure", None)  # must not be called
    other.prepare([noise], 0)
    assert "no speech" in one.lookup(noise)
    assert one.lookup(noise) == other.lookup(noise)


def test_splits_long_recordings(make_cache, tmp_path, speech):
    pause = np.zeros(24_000, np.float32)
    parts = [speech[:40_000], speech[40_000:80_000], speech[:56_000]]
    path = write_wav(
        tmp_path / "long.wav",
        np.concatenate([p for s in parts for p in (s, pause)]),
        subtype="FLOAT",
    )
    cache = make_cache(max_seconds=5.0)
    segments = prepared(cache, path)
    assert [segment.index for segment in segments] == [0, 1, 2]
    assert all(segment.n_frames <= 5 * 16_000 / 256 + 1 for segment in segments)
    for segment, wav in zip(segments, parts, strict=True):
        alone = write_wav(tmp_path / "alone.wav", wav, subtype="FLOAT")
        (expected,) = prepared(cache, alone)
        similar = (
            cache.files.of(segment).read_embedding() @ cache.files.of(expected).read_embedding()
        )
        assert similar > 0.97
        assert abs(segment.n_frames - expected.n_frames) < 1.5 * 24_000 / 256
    starts = [segment.start for segment in segments]
    assert starts == [0, segments[0].n_frames, segments[0].n_frames + segments[1].n_frames]


def test_drops_segment_without_speech(make_cache, tmp_path, speech):
    silence = np.zeros(160_000, np.float32)
    wav = np.concatenate([speech[:64_000], silence, speech[:64_000]])
    cache = make_cache(max_seconds=5.0)
    segments = prepared(cache, write_wav(tmp_path / "a.wav", wav))
    assert [segment.index for segment in segments] == [0, 3, 4]


def test_parallel_and_serial_features_are_equal(cache, make_cache, recording, tmp_path):
    serial = make_cache(root=tmp_path / "serial")
    (segment,) = prepared(serial, recording)
    assert cache.prepare([recording], num_workers=1)[0][recording] == [segment]
    mels = [c.files.of(segment).read_mel(0, 126) for c in (serial, cache)]
    torch.testing.assert_close(*mels, atol=5e-4, rtol=0)
    voices = [c.files.of(segment).read_embedding() for c in (serial, cache)]
    torch.testing.assert_close(*voices, atol=1e-5, rtol=0)


def prepare_and_count(cache, paths, counts, barrier):
    """Prepare all paths, and report how many recordings were loaded and how many have segments."""
    loads = []
    load = cache._load
    cache._load = lambda path: loads.append(path) or load(path)
    torch.set_num_threads(1)
    barrier.wait()
    segments, _ = cache.prepare(paths, num_workers=0)
    counts.put((len(loads), len(segments)))


def copies(folder: Path, speech: np.ndarray, number: int) -> list[Path]:
    """Write recordings of different content."""
    return [
        write_wav(folder / f"{i}.wav", speech[i * 100 : i * 100 + 16_000]) for i in range(number)
    ]


def test_two_processes_share_work(cache, tmp_path, speech):
    paths = copies(tmp_path, speech, 24)
    context = multiprocessing.get_context("fork")
    counts, barrier = context.Queue(), context.Barrier(2)
    processes = [
        context.Process(target=prepare_and_count, args=(cache, paths, counts, barrier))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    results = [counts.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert [n_segments for _, n_segments in results] == [24, 24]
    loaded = [n_loaded for n_loaded, _ in results]
    assert min(loaded) > 0
    assert sum(loaded) <= 24 + 2 * RECORDINGS_AT_ONCE  # batches computed by both


def test_continues_after_kill(cache, tmp_path, speech):
    paths = copies(tmp_path, speech, 24)
    # No progress bar: its lock is shared with this process, and the kill could leave it locked.
    arguments = (paths, 0, False)
    process = multiprocessing.get_context("fork").Process(target=cache.prepare, args=arguments)
    process.start()
    while len(written(cache, "voices")) < 3:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    done = [path for path in paths if cache.lookup(path)]
    assert 0 < len(done) < 24
    before = written(cache, "voices")
    segments, _ = cache.prepare(paths, num_workers=0)
    assert len(segments) == 24
    finished = {c.files.path("voices", segments[p][0].content) for c in [cache] for p in done}
    after = written(cache, "voices")
    assert all(after[path] == before[path] for path in finished)


def test_skips_growing_recording(cache, recording, monkeypatch):
    load = features.io.load

    def load_while_it_grows(path):
        result = load(path)
        with path.open("ab") as file:
            file.write(b"more")
        return result

    monkeypatch.setattr(features.io, "load", load_while_it_grows)
    assert "changed while it was read" in cache.prepare([recording], 0)[1][recording]
    monkeypatch.undo()
    assert prepared(cache, recording)


def test_dead_worker_error(cache, recording, monkeypatch):
    monkeypatch.setattr(FeatureCache, "compute", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(InputError, match=r"data\.num_workers"):
        cache.prepare([recording], num_workers=1)


def test_remembers_quality(cache, recording):
    (segment,) = prepared(cache, recording)
    quality = cache.quality(segment.content)
    assert (quality.seconds, quality.sample_rate) == (2.0, 16_000)
    (path,) = written(cache, "sounds")
    assert json.loads(path.read_text())["quality"]["seconds"] == 2.0


def test_refuses_unwritable_cache(tmp_path, make_cache, recording):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError, match=r"data\.cache_dir"):
        make_cache(root=blocked / "cache").prepare([recording], num_workers=0)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_full_disk(cache, recording, num_workers):
    """A limit on the size of files simulates a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"data\.cache_dir .* cannot be written"):
            cache.prepare([recording], num_workers, show_progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert written(cache, "mels") == {}
    assert prepared(cache, recording)


def test_recogniser_hears_in_bfloat16(tmp_path, mel_settings, encoder, monkeypatch):
    settings = RecordingSettings(**RECORDINGS_DEFAULTS | {"dir": "a", "cache_dir": tmp_path})

    def opened(precision):
        recogniser = Recogniser(n_mels=80, dim=8, n_layers=1, n_heads=2)
        torch.manual_seed(0)
        for parameter in recogniser.parameters():
            nn.init.normal_(parameter)
        mel = MelSpectrogram(**mel_settings)
        needs = FeatureNeeds(mel, encoder, "ge2e-1", teacher=recogniser, recogniser=recogniser)
        return replace(settings, feature_precision=precision).cache(needs)

    files = {opened(precision).files.path("heard", "a", 0) for precision in ("32", "bf16")}
    assert len(files) == 1  # a cache may be shared by processors of both kinds

    def product_dtypes(precision):
        layers = opened(precision).needs.recogniser.layers
        return {part.weight.dtype for part in layers.modules() if isinstance(part, nn.Linear)}

    assert product_dtypes("32") == {torch.float32}
    assert product_dtypes("bf16") == {torch.bfloat16}
    for fast, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        monkeypatch.setattr(settings_module, "has_bfloat16_products", lambda fast=fast: fast)
        assert product_dtypes("auto") == {dtype}
    assert opened("bf16").needs.recogniser.positions.dtype == torch.float32
