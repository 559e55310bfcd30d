import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import DATA_DEFAULTS, data_module, write_wav
from vc_lightning.audio.checks import acoustics
from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.errors import InputError
from vc_lightning.data.augmentations import Gain
from vc_lightning.data.crops.mel import (
    CropBatch,
    Crops,
    collate,
    reference_spans,
    speaker_embeddings,
)
from vc_lightning.data.manifest import (
    AudioFile,
    find_audio_files,
    limit_minutes,
    read_manifest,
    split_utterances,
)
from vc_lightning.data.modules.voice import VoiceSettings
from vc_lightning.models import pitch_tracker
from vc_lightning.models.recogniser import Recogniser


class Ramp:
    """A teacher whose two features are the frame number and its negative."""

    sample_rate = 8_000
    frame_rate = 50.0

    def __init__(self, identity="ramp-1"):
        self.identity = identity

    def features(self, wav):
        count = np.arange(len(wav) * 50 // 8_000, dtype=np.float32)
        return np.stack([count, -count], axis=1)


@pytest.fixture
def module(mel_settings, encoder, cache_dir):
    """Make data modules with DATA_DEFAULTS and changes."""

    def make(**changes):
        values = DATA_DEFAULTS | {"cache_dir": str(cache_dir)} | changes
        return data_module(VoiceSettings, MelSpectrogram(**mel_settings), encoder, **values)

    return make


def prepared(data):
    data.setup()
    return data


def utterances(*counts):
    """List counts[i] recordings of each speaker s<i>."""
    return [
        AudioFile(Path(f"{speaker}/{index}.wav"), f"s{speaker}")
        for speaker, count in enumerate(counts)
        for index in range(count)
    ]


def test_speakers_of_folders(tmp_path, speech):
    for name in ("a.wav", "b.FLAC", "p1/x.wav", "p2/deep/y.ogg", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    found = {str(u.path.relative_to(tmp_path)): u.speaker for u in find_audio_files(tmp_path)}
    assert found == {
        "a.wav": "a",
        "b.FLAC": "b",
        "p1/x.wav": "p1",
        "p2/deep/y.ogg": str(Path("p2/deep")),
    }


def test_refuses_folders_without_audio(tmp_path):
    with pytest.raises(InputError, match="holds no audio"):
        find_audio_files(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        find_audio_files(tmp_path / "missing")


def test_manifest_speakers_and_splits(tmp_path):
    table = tmp_path / "MANIFEST.tsv"
    table.write_text("path\tspeaker\tsplit\na.wav\tx\ttrain\nb c.wav\ty\tval\nd.wav\tz\ttest\n")
    found = read_manifest(table, None)
    assert [(u.path, u.speaker, u.split) for u in found] == [
        (tmp_path / "a.wav", "x", "train"),
        (tmp_path / "b c.wav", "y", "val"),
    ]
    assert read_manifest(table, Path("/data"))[0].path == Path("/data/a.wav")
    train, val = split_utterances(found, 0.5, 0, 0)
    assert ([u.speaker for u in train], [u.speaker for u in val]) == (["x"], ["y"])


@pytest.mark.parametrize("text", ["", "file\tspeaker\na\tb\n", "path,speaker\na,b\n"])
def test_refuses_table_without_columns(tmp_path, text):
    table = tmp_path / "m.tsv"
    table.write_text(text)
    with pytest.raises(InputError, match=r"data\.manifest"):
        read_manifest(table, None)


def test_reads_manifests_of_other_programs(tmp_path):
    table = tmp_path / "m.tsv"
    table.write_text('\ufeffpath\tspeaker\tsplit\nsay "a".wav\tx\t\n', encoding="utf-8")
    assert [u.path.name for u in read_manifest(table, None)] == ['say "a".wav']
    table.write_text("path\tspeaker\tsplit\na.wav\tx\tvalid\n")
    with pytest.raises(InputError, match="split valid"):
        read_manifest(table, None)
    for row in ("a.wav\tx\ttest", "a.wav\t\ttrain"):
        table.write_text(f"path\tspeaker\tsplit\n{row}\n")
        with pytest.raises(InputError, match="none of its 1 rows has a path, a speaker"):
            read_manifest(table, None)


@pytest.mark.parametrize("fraction", [0.05, 0.3, 0.9, 0.99])
def test_validation_leaves_training_utterances(fraction):
    listed = utterances(1, 2, 10, 40)
    train, val = split_utterances(listed, fraction, 0, seed=3)
    assert Counter(u.speaker for u in train).keys() == {"s0", "s1", "s2", "s3"}
    assert sorted([*train, *val], key=listed.index) == listed
    assert len(val) == min(round(fraction * 53), 53 - 4)
    assert (train, val) == split_utterances(listed, fraction, 0, seed=3)


def test_speakers_are_held_out_by_number_or_name():
    listed = utterances(3, 3, 3)
    train, val = split_utterances(listed, 0, ["s1"], 0)
    assert {u.speaker for u in val} == {"s1"}
    train, val = split_utterances(listed, 0, 2, 0)
    assert len({u.speaker for u in train}) == 1
    assert len(val) == 6
    assert {u.speaker for u in split_utterances(listed, 0, "s2", 0)[1]} == {"s2"}
    with pytest.raises(InputError, match="no speaker bob"):
        split_utterances(listed, 0, ["bob"], 0)
    with pytest.raises(InputError, match="none of 3 speakers"):
        split_utterances(listed, 0, 3, 0)


def test_minutes_per_speaker(corpus):
    listed = find_audio_files(corpus)  # two speakers, three files of two seconds each
    for seconds, per_speaker in {1: 1, 2: 1, 3: 2, 4: 2, 100: 3}.items():
        kept = limit_minutes(listed, seconds / 60)
        assert Counter(u.speaker for u in kept) == {"man": per_speaker, "woman": per_speaker}


def test_batches_are_crops(module, corpus):
    data = prepared(module(dir=str(corpus)))
    mel = data.features.mel
    whole = [torch.from_numpy(mel.extract(*io.load(u.path))) for u in data.train]
    batch = next(iter(data.train_dataloader()))
    assert batch.target_mel.shape == (2, 80, 64)
    assert batch.target_embedding.shape == (2, 256)
    assert batch.lengths.tolist() == [64, 64]
    for crop in batch.target_mel:
        distances = [
            (utterance[:, start : start + 64] - crop).abs().max()
            for utterance in whole
            for start in range(utterance.shape[1] - 63)
        ]
        assert min(distances) < 1e-3


def test_vtlp_input(module, corpus):
    changes = {"vtlp_factors": [0.8, 1.25], "vtlp_probability": 0.5, "val_fraction": 0.4}
    data = prepared(module(dir=str(corpus), **changes))
    files = data.features.files
    crops = Crops(data.features_of(data.train), data.cropping, seed=0)
    seen = Counter()
    for position in range(60):
        mel, _, embedding, input_mel, input_embedding, *_ = crops[0, position, 0]
        entry = data.train[0].segment
        copies = [
            i for i in range(3) if torch.equal(files.of(entry).read_embedding(i), input_embedding)
        ]
        seen.update(copies)
        assert torch.equal(files.of(entry).read_embedding(), embedding)
        starts = [s for s in range(63) if torch.equal(files.of(entry).read_mel(s, s + 64), mel)]
        expected = files.of(entry).read_mel(starts[0], starts[0] + 64, copies[0])
        assert torch.equal(input_mel, expected)  # the same frames
    assert 20 < seen[0] < 40
    assert min(seen[1], seen[2]) > 5
    for batch in data.val_dataloader():
        assert torch.equal(batch.input_mel, batch.target_mel)
        assert torch.equal(batch.input_embedding, batch.target_embedding)


def test_crops_depend_on_seed_epoch_and_position(module, corpus):
    def epochs(**changes):
        loader = prepared(module(dir=str(corpus), **changes)).train_dataloader()
        for epoch in range(2):
            loader.batch_sampler.set_epoch(epoch)  # as the Trainer does
            yield torch.cat([batch.target_mel for batch in loader])

    first, second = epochs()
    assert all(map(torch.equal, (first, second), epochs()))
    assert all(map(torch.equal, (first, second), epochs(num_workers=2)))
    assert not torch.equal(first, second)
    assert not torch.equal(first, next(epochs(seed=2)))
    assert torch.equal(*epochs(shuffle=False))


def test_augmentations_change_only_the_input(module, corpus):
    def draw(*augmentations):
        data = prepared(module(dir=str(corpus), augmentations=augmentations))
        return next(iter(data.train_dataloader())), next(iter(data.val_dataloader()), None)

    plain, _ = draw()
    gained, _ = draw(Gain(6))
    assert torch.equal(plain.target_mel, gained.target_mel)
    assert torch.equal(plain.input_mel, plain.target_mel)
    assert not torch.equal(gained.input_mel, gained.target_mel)
    assert torch.equal(gained.input_mel, draw(Gain(6))[0].input_mel)
    data = prepared(module(dir=str(corpus), augmentations=[Gain(6)], val_fraction=0.5))
    for batch in data.val_dataloader():
        assert torch.equal(batch.input_mel, batch.target_mel)


def test_speaker_mean_embeddings(module, corpus, encoder):
    data = prepared(
        module(dir=str(corpus), speaker_embedding="speaker", shuffle=False, vtlp_factors=[0.9])
    )
    files = data.features.files
    of_man = [
        files.of(u.segment).read_embedding().numpy() for u in data.train if u.speaker == "man"
    ]
    batch = next(iter(data.train_dataloader()))  # two recordings of the man
    for embedding in batch.target_embedding:
        np.testing.assert_allclose(embedding.numpy(), encoder.average(of_man), atol=1e-6)
    copies = [
        files.of(u.segment).read_embedding(1).numpy() for u in data.train if u.speaker == "man"
    ]
    voices = speaker_embeddings(data.train, files, encoder.average)
    np.testing.assert_allclose(voices["man"][1], encoder.average(copies), atol=1e-6)


def test_crops_have_matching_pitch(module, corpus, mel_settings):
    data = prepared(module(dir=str(corpus), f0=True, vtlp_factors=[0.8], vtlp_probability=1.0))
    files, utterance = data.files, data.train[0]
    hop_length = mel_settings["hop_length"]
    prepared_wav = data.mel.prepare(*io.load(utterance.path))
    expected = torch.from_numpy(pitch_tracker.track(prepared_wav, 16_000, hop_length))
    assert torch.equal(files.of(utterance.segment).read_f0(0, utterance.n_frames), expected)
    assert (expected > 0).float().mean() > 0.2
    crops = Crops(data.features_of(data.train), data.cropping, seed=0)
    crop = crops[0, 5, 0]
    mels = [files.of(utterance.segment).read_mel(s, s + 64) for s in range(63)]
    starts = [s for s, mel in enumerate(mels) if torch.equal(mel, crop.target_mel)]
    assert torch.equal(crop.f0, expected[starts[0] : starts[0] + 64])  # not that of the VTLP copy
    assert torch.equal(data.examples(1)[0].f0, expected)
    without = prepared(module(dir=str(corpus)))
    assert not next(iter(without.train_dataloader())).f0.any()


def test_vtlp_targets(module, corpus):
    changes = {
        "vtlp_factors": [0.8, 1.25],
        "vtlp_target_factors": [1.25],
        "vtlp_target_probability": 0.5,
    }
    changes |= {"vtlp_probability": 1.0, "crop_frames": None}
    data = prepared(module(dir=str(corpus), f0=True, **changes))
    files, utterance = data.files, data.train[0]
    crops = Crops(data.features_of(data.train), data.cropping, seed=0)
    mels = [files.of(utterance.segment).read_mel(0, utterance.n_frames, copy) for copy in range(3)]
    embeddings = [files.of(utterance.segment).read_embedding(copy) for copy in range(3)]
    f0 = files.of(utterance.segment).read_f0(0, utterance.n_frames)
    seen = Counter()
    for position in range(60):
        mel, _, embedding, input_mel, input_embedding, target_f0, *_ = crops[0, position, 0]
        target_copy = [torch.equal(mel, other) for other in mels].index(True)
        input_copy = [torch.equal(input_mel, other) for other in mels].index(True)
        assert torch.equal(embedding, embeddings[target_copy])
        assert torch.equal(input_embedding, embeddings[input_copy])
        assert torch.equal(target_f0, f0 * (1.25 if target_copy else 1))
        seen[target_copy, input_copy] += 1
    assert set(seen) == {(0, 1), (0, 2), (2, 0), (2, 1)}  # never the same voice twice
    assert 18 < seen[2, 0] + seen[2, 1] < 42
    for batch in data.val_dataloader():
        assert torch.equal(batch.input_mel, batch.target_mel)


def test_adds_pitch_to_cache(module, corpus, tmp_path):
    before = prepared(module(dir=str(corpus), cache_dir=str(tmp_path)))
    files = list(tmp_path.rglob("*.safetensors"))
    times = {p: p.stat().st_mtime_ns for p in files}
    after = prepared(module(dir=str(corpus), cache_dir=str(tmp_path), f0=True))
    assert {p: p.stat().st_mtime_ns for p in files} == times
    assert len(list(after.files.folders["pitches"].rglob("*.safetensors"))) == 6
    assert before.fingerprint == after.fingerprint


def test_ignores_pitch_of_other_tracker(module, corpus, tmp_path, monkeypatch):
    before = prepared(module(dir=str(corpus), cache_dir=str(tmp_path), f0=True))
    monkeypatch.setattr(pitch_tracker, "NAME", "another 1.0")
    after = prepared(module(dir=str(corpus), cache_dir=str(tmp_path), f0=True))
    assert after.files.folders["pitches"] != before.files.folders["pitches"]
    assert after.files.folders["mels"] == before.files.folders["mels"]
    assert len(list(after.files.folders["pitches"].rglob("*.safetensors"))) == 6


def test_teacher_features_match_the_mel_frames(module, corpus, tmp_path):
    data = prepared(module(dir=str(corpus), cache_dir=str(tmp_path), teacher=Ramp()))
    utterance = data.train[0]
    features = data.files.of(utterance.segment).read_teacher(0, utterance.n_frames)
    seconds = torch.arange(utterance.n_frames) * data.mel.hop_length / data.mel.sample_rate
    last = 100 - 1  # of two seconds at 50 Hz
    expected = (50 * seconds).clamp(max=last) - last / 2
    torch.testing.assert_close(features, torch.stack([expected, -expected], 1), atol=0.03, rtol=0)
    crop = Crops(data.features_of(data.train), data.cropping, seed=0)[0, 3, 0]
    starts = [s for s in range(63) if torch.equal(features[s : s + 64], crop.teacher)]
    assert torch.equal(
        data.files.of(utterance.segment).read_mel(starts[0], starts[0] + 64), crop.target_mel
    )
    batch = next(iter(data.train_dataloader()))
    assert batch.teacher.shape == (2, batch.target_mel.shape[-1], 2)
    torch.testing.assert_close(data.teacher_std, features.std(dim=0), rtol=0.02, atol=0)
    other = prepared(module(dir=str(corpus), cache_dir=str(tmp_path), teacher=Ramp("ramp-2")))
    assert other.files.folders["teacher"] != data.files.folders["teacher"]
    without = prepared(module(dir=str(corpus), cache_dir=str(tmp_path)))
    assert next(iter(without.train_dataloader())).teacher.shape[-1] == 0
    assert len(without.teacher_std) == 0


class Loudness(Recogniser):
    """A recogniser whose features say the level of each half of the band, and the VTLP factor."""

    identity = "loudness"

    def __init__(self):
        super().__init__(n_mels=4, dim=8, n_layers=1, n_heads=1)

    def features_of_copies(self, wav, factors):
        mel = self.mel(torch.from_numpy(wav))[:, ::2].T.numpy()
        copies = [np.full((len(mel), 4), factor, np.float32) for factor in factors]
        return np.stack([np.concatenate([mel, copy], axis=1) for copy in copies])


def test_what_a_recogniser_hears_of_each_copy(module, corpus, tmp_path):
    recogniser = Loudness()
    changes = {"vtlp_factors": [0.8, 1.25], "vtlp_probability": 0.5}
    made = {"recogniser": recogniser, "teacher": recogniser, "acoustics": True}
    data = prepared(module(dir=str(corpus), cache_dir=str(tmp_path), **made, **changes))
    utterance = data.train[0]
    n_frames, files = utterance.n_frames, data.files
    heard = [files.of(utterance.segment).read_heard(0, n_frames, copy) for copy in range(3)]
    for factor, features in zip([1.0, 0.8, 1.25], heard, strict=True):
        torch.testing.assert_close(
            features[4:], torch.full((4, n_frames), factor), atol=1e-3, rtol=0
        )
    prepared_wav = data.mel.prepare(*io.load(utterance.path))
    expected = recogniser.hear(prepared_wav, n_frames, 62.5)
    torch.testing.assert_close(heard[0], torch.from_numpy(expected).T, atol=2e-3, rtol=0)
    teacher = files.of(utterance.segment).read_teacher(0, n_frames)  # the same, less its mean
    centred = torch.from_numpy(expected - expected.mean(axis=0))
    torch.testing.assert_close(teacher, centred, atol=3e-3, rtol=0)
    crops = Crops(data.features_of(data.train), data.cropping, 0)
    seen = set()
    for position in range(20):
        crop = crops[0, position, 0]
        target_mel, features = crop.target_mel, crop.heard
        assert crop.reference_mel.shape[-1] == crop.reference_heard.shape[-1] == 0
        starts = [s for s in range(63) if torch.equal(heard[0][:4, s : s + 64], features[:4])]
        whole = files.of(utterance.segment).read_mel(0, n_frames)
        assert torch.equal(target_mel, whole[:, starts[0] : starts[0] + 64])
        seen.add(round(float(features[4, 0]), 2))
        assert (float(features[4, 0]) == 1) == torch.equal(crop.input_mel, target_mel)
        torch.testing.assert_close(crop.acoustics, acoustics.describe(whole))
    assert seen == {1.0, 0.8, 1.25}
    batch = next(iter(data.train_dataloader()))
    assert batch.heard.shape == (2, 8, batch.target_mel.shape[-1])
    assert batch.acoustics.shape == (2, acoustics.N_ACOUSTICS)
    mean, std = data.heard_statistics
    assert mean.shape == std.shape == (8,)
    torch.testing.assert_close(mean[4:], torch.ones(4))
    without = prepared(module(dir=str(corpus), cache_dir=str(tmp_path), **changes))
    assert next(iter(without.train_dataloader())).heard.shape[1] == 0


def test_reference_is_what_surrounds_the_crop_in_the_target_voice(module, corpus, tmp_path):
    changes = {"vtlp_factors": [0.8], "vtlp_target_factors": [0.8]}
    made = {"recogniser": Loudness(), "reference": True}
    data = prepared(module(dir=str(corpus), cache_dir=str(tmp_path), **made, **changes))
    utterance = data.train[0]
    features, n_frames = data.files.of(utterance.segment), utterance.n_frames
    wholes = [features.read_mel(0, n_frames, copy) for copy in range(2)]
    heard = [features.read_heard(0, n_frames, copy) for copy in range(2)]
    crops = Crops(data.features_of(data.train), data.cropping, 0)
    seen = set()
    for position in range(12):
        target, *_, mel, features_of_mel, length = crops[0, position, 0]
        copy = int(not any(torch.equal(wholes[0][:, s : s + 64], target) for s in range(n_frames)))
        seen.add(copy)
        start = next(s for s in range(n_frames) if torch.equal(wholes[copy][:, s : s + 64], target))
        around = torch.arange(n_frames)
        around = around[(around < start) | (around >= start + 64)]
        assert len(around) <= 100
        assert torch.equal(mel, wholes[copy][:, around])
        assert length == len(around)
        assert torch.equal(features_of_mel, heard[copy][:, around])
    assert seen == {0, 1}
    batch = next(iter(data.train_dataloader()))
    assert batch.reference_mel.shape[-1] == batch.reference_lengths.max()
    assert batch.reference_heard.shape == (2, 8, batch.reference_mel.shape[-1])


@pytest.mark.parametrize(
    ("start", "n_frames", "expected"),
    [
        (0, 300, [(0, 0), (64, 164)]),
        (236, 300, [(136, 236), (300, 300)]),
        (100, 300, [(50, 100), (164, 214)]),
        (20, 300, [(0, 20), (84, 164)]),
        (10, 80, [(10, 74)]),  # too little around it
    ],
)
def test_spans_of_a_reference(start, n_frames, expected):
    assert reference_spans(start, start + 64, n_frames, 100) == expected


def test_excludes_files(module, corpus):
    data = prepared(module(dir=str(corpus), exclude=["0.wav", "2.*"]))
    assert {u.path.name for u in data.train} == {"1.wav"}
    with pytest.raises(InputError, match="leaves out all 6 files"):
        prepared(module(dir=str(corpus), exclude=["*"]))


def test_names_speakers_without_usable_files(module, tmp_path, speech, caplog):
    for name, wav in {"anna": speech[:32_000], "ben": np.zeros(16_000)}.items():
        (tmp_path / name).mkdir()
        write_wav(tmp_path / name / "a.wav", wav)
    data = prepared(module(dir=str(tmp_path)))
    assert {u.speaker for u in data.train} == {"anna"}
    assert "1 speakers without a usable file: ben" in caplog.text


def test_short_files_and_whole_utterances(module, corpus):
    data = prepared(module(dir=str(corpus), crop_frames=500))
    batch = next(iter(data.train_dataloader()))
    assert batch.target_mel.shape[-1] == batch.lengths.max() == 126
    uncut = prepared(module(dir=str(corpus), crop_frames=None))
    whole = Crops(uncut.features_of(uncut.train), uncut.cropping, 0)[0, 0, 0].target_mel
    assert whole.shape == (80, 126)
    zero, one = torch.zeros(4), torch.ones(4)
    short, f0, teacher = whole[:, :50], torch.full((126,), 100.0), torch.ones(126, 3)
    heard, described = torch.ones(2, 126), torch.zeros(9)
    around = torch.ones(80, 30), torch.ones(2, 30)
    lengths = torch.tensor(126), torch.tensor(50)
    first = whole, lengths[0], zero, whole, one, f0, teacher, heard, described, *around, lengths[0]
    second = short, lengths[1], one, short, one, f0[:50], teacher[:50], heard[:, :50], described
    batch = collate([CropBatch(*first), CropBatch(*second, *around, lengths[1])])
    assert batch.heard.sum(dim=2).tolist() == [[126] * 2, [50] * 2]
    assert batch.teacher.sum(dim=1).tolist() == [[126] * 3, [50] * 3]
    assert batch.f0.sum() == 100 * (126 + 50)
    assert batch.lengths.tolist() == [126, 50]
    assert torch.equal(batch.target_mel[1, :, :50], whole[:, :50])
    assert batch.target_mel[1, :, 50:].abs().max() == 0


def test_skips_unusable_files(module, tmp_path, speech, caplog):
    write_wav(tmp_path / "good.wav", speech[:32_000])
    write_wav(tmp_path / "silent.wav", np.zeros(16_000))
    (tmp_path / "text.wav").write_text("no sound")
    with caplog.at_level(logging.WARNING):
        data = prepared(module(dir=str(tmp_path)))
    assert [u.path.name for u in data.train] == ["good.wav"]
    messages = [record.getMessage() for record in caplog.records]
    assert any("silent.wav: the recording is silent" in m for m in messages)
    assert any("text.wav: is not audio" in m for m in messages)
    assert "2 of 3 files were skipped" in messages


def test_refuses_folder_without_usable_files(module, tmp_path):
    write_wav(tmp_path / "silent.wav", np.zeros(16_000))
    with pytest.raises(InputError, match="none of 1 files is usable"):
        prepared(module(dir=str(tmp_path)))


def test_mean_mel(module, corpus):
    data = prepared(module(dir=str(corpus)))
    mels = [data.features.mel.extract(*io.load(u.path)) for u in data.train]
    expected = np.concatenate(mels, axis=1).mean(axis=1)
    np.testing.assert_allclose(data.mean_mel().numpy(), expected, atol=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 0},
        {"batch_size": "a"},
        {"num_workers": -1},
        {"val_fraction": 1.0},
        {"crop_frames": 0},
        {"minutes_per_speaker": -1},
        {"seed": -1},
        {"val_speakers": -1},
        {"vtlp_probability": 2},
        {"vtlp_target_probability": -1},
        {"max_seconds": 0},
        {"sampling": "file"},
        {"speaker_embedding": "none"},
    ],
)
def test_refuses_impossible_values(module, changes):
    (name, value), *_ = changes.items()
    with pytest.raises(InputError, match=f"data.{name}={value}"):
        module(dir="x", **changes)


def test_target_factors_must_be_factors(module):
    with pytest.raises(
        InputError, match=r"data\.vtlp_target_factors=0\.9: is not in data\.vtlp_factors=\[0\.8\]"
    ):
        module(dir="x", vtlp_factors=[0.8], vtlp_target_factors=[0.9])


def test_refuses_missing_data(module):
    with pytest.raises(InputError, match="say what to train on"):
        module()


def test_lightning_copies_batches_to_a_gpu_without_waiting(module, corpus):
    """A tensor that remembers how it was moved; so Lightning moves it, as batches are tuples."""

    class Moved(torch.Tensor):
        def to(self, *arguments, **options):
            self.moved = options.get("non_blocking", False)
            return self

    data = prepared(module(dir=str(corpus)))
    batch = next(iter(data.train_dataloader())).apply(lambda x: x.as_subclass(Moved))
    for device, non_blocking in (("cpu", False), ("cuda", True)):
        moved = data.transfer_batch_to_device(batch, torch.device(device), 0)
        assert isinstance(moved, CropBatch)
        assert all(tensor.moved == non_blocking for tensor in moved)
