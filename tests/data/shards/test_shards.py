"""Shards: writing, streaming by several readers, resuming, and errors."""

import itertools
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from huggingface_hub import HfFileSystem, constants
from hydra.utils import instantiate
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

import hub_server
from helpers import TINY_OVERRIDES, composed, data_module
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.commands import prepare, train
from vc_lightning.commands.support.overrides import translate
from vc_lightning.common.errors import InputError
from vc_lightning.data.augmentations import Gain
from vc_lightning.data.crops.mel import speaker_embeddings
from vc_lightning.data.features.needs import FeatureNeeds
from vc_lightning.data.modules import shards as module_of_shards
from vc_lightning.data.modules.shards import ShardsSettings
from vc_lightning.data.shards import format as shards
from vc_lightning.data.shards import writer as shard_writer
from vc_lightning.data.shards.format import Shards
from vc_lightning.data.shards.stream import CropStream, Position
from vc_lightning.models import checkpoints

FACTORS = [0.8, 1.25]
DEFAULTS = {
    "batch_size": 1,
    "shuffle": True,
    "shuffle_buffer": 8,
    "num_workers": 0,
    "pin_memory": True,
    "crop_frames": 32,
    "vtlp_factors": None,
    "vtlp_probability": 0.5,
    "vtlp_target_factors": [],
    "vtlp_target_probability": 0.5,
    "augmentations": [],
    "reference_frames": 100,
    "seed": 1,
}


@pytest.fixture(scope="module")
def identity(encoder):
    return checkpoints.identity("ge2e", encoder.state_dict())


@pytest.fixture(scope="module")
def preparation(corpus, cache_dir):
    """Arguments of train.py for the corpus: four utterances to train on, two to validate."""
    return [
        *(f"data.dir={corpus}", f"data.cache_dir={cache_dir}", "data.num_workers=0"),
        *(f"data.vtlp_factors={FACTORS}", "data.val_fraction=0.34", "experiment=none"),
    ]


@pytest.fixture(scope="module")
def folder(preparation, tmp_path_factory):
    """Folder of shards that prepare.py has written."""
    folder = tmp_path_factory.mktemp("shards") / "features"
    run_dir = tmp_path_factory.mktemp("run")
    given = ("verb=shards", f"output={folder}", f"run_dir={run_dir}")
    prepare.main(composed("prepare", *preparation, *given))
    assert not any(run_dir.iterdir())  # nothing was trained
    return folder


@pytest.fixture(scope="module")
def data(preparation, mel_settings, encoder, identity):
    """Data module whose cached features are those of `folder`."""
    config = composed("train", *preparation).data
    mel = MelSpectrogram(**mel_settings)
    needs = FeatureNeeds(mel, encoder, identity, f0=True)
    data = instantiate(config, _convert_="all").build(needs)
    data.setup()
    return data


@pytest.fixture(scope="module")
def many(data, tmp_path_factory):
    """Shards of 37 utterances, so that some hold more than others."""
    folder = tmp_path_factory.mktemp("many")
    train, val = data.train, data.val
    data.train, data.val = list(itertools.islice(itertools.cycle(train), 37)), []
    index = shard_writer.write(data, str(folder), max_megabytes=1, max_utterances=100)
    data.train, data.val = train, val
    assert set(index.train.shards) == {2, 3}
    return Shards(str(folder), "train", index.train.shards, 1 + len(FACTORS))


@pytest.fixture
def module(folder, mel_settings, encoder, identity):
    """Make data modules of the shards with DEFAULTS and changes, for one of several processes."""

    def make(rank=0, world_size=1, mel=None, encoder_identity=identity, **changes):
        settings = {"dir": str(folder)} | DEFAULTS | changes
        mel = MelSpectrogram(**mel_settings | (mel or {}))
        data = data_module(ShardsSettings, mel, encoder, encoder_identity, **settings)
        data.trainer = SimpleNamespace(
            global_rank=rank,
            world_size=world_size,
            accumulate_grad_batches=1,
            limit_train_batches=1.0,
        )
        data.setup()
        return data

    return make


def first(loader, n_batches):
    """Mels of the first batches."""
    return [batch.target_mel for batch in itertools.islice(loader, n_batches)]


def test_shards_equal_cache(folder, data):
    index = shards.read_index(str(folder))
    assert (index.vtlp_factors, index.speaker_encoder) == (FACTORS, data.encoder_identity)
    assert index.mel == data.mel.settings
    assert index.mean_mel == data.mean_mel().tolist()
    files = data.features.files
    for split, utterances in (("train", data.train), ("val", data.val)):
        size = getattr(index, split)
        assert sum(size.shards) == size.utterances == len(utterances)
        assert size.frames == sum(u.n_frames for u in utterances)
        assert size.speakers == len({u.speaker for u in utterances})
        left = list(utterances)
        for sample in Shards(str(folder), split, size.shards, 3).read_all():
            assert sample.mels.dtype == np.float16
            whole = [files.of(u.segment).read_mel(0, u.n_frames).T.numpy() for u in left]
            utterance = left.pop([np.array_equal(sample.mels[0], mel) for mel in whole].index(True))
            f0 = files.of(utterance.segment).read_f0(0, utterance.n_frames)
            assert f0.any()
            assert np.array_equal(sample.f0, f0.numpy())
            assert sample.speaker == utterance.speaker
            for copy in range(3):
                mel = files.of(utterance.segment).read_mel(0, utterance.n_frames, copy)
                assert np.array_equal(sample.mels[copy], mel.T.numpy())
                voice = files.of(utterance.segment).read_embedding(copy)
                assert np.array_equal(sample.embeddings[copy], voice.numpy())
        assert not left
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "index.json",
        *(f"train-{i:06d}.tar" for i in range(4)),
        *(f"val-{i:06d}.tar" for i in range(2)),
    }


def test_input_and_target_frames_match(module, folder):
    data = module(augmentations=[Gain(6)], vtlp_probability=1)
    stream = data.train_dataloader().dataset
    for sample in data.train.read_all():
        mel, _, embedding, input_mel, input_embedding, f0, *_ = stream.crop(3, sample)
        assert all(map(torch.equal, stream.crop(3, sample), stream.crop(3, sample)))
        assert len({stream.crop(e, sample)[0].numpy().tobytes() for e in range(5)}) > 1
        assert torch.equal(embedding, torch.from_numpy(sample.embeddings[0]))
        copy = [np.array_equal(e, input_embedding.numpy()) for e in sample.embeddings].index(True)
        assert copy > 0
        whole = torch.from_numpy(sample.mels).float()
        starts = range(whole.shape[1] - 31)
        start = [torch.equal(whole[0, s : s + 32].T, mel) for s in starts].index(True)
        assert np.array_equal(f0.numpy(), sample.f0[start : start + 32])
        difference = input_mel - whole[copy, start : start + 32].T
        inside = (input_mel > 0) & (input_mel < 1)
        assert difference[inside].std() < 1e-4 < difference[inside].abs().max()  # one gain


def test_vtlp_targets(module, folder):
    data = module(vtlp_probability=1, vtlp_target_factors=[1.25], vtlp_target_probability=1)
    stream = data.train_dataloader().dataset
    for sample in data.train.read_all():
        mel, _, embedding, _, input_embedding, f0, *_ = stream.crop(3, sample)
        assert torch.equal(embedding, torch.from_numpy(sample.embeddings[2]))
        assert not torch.equal(input_embedding, embedding)
        whole = torch.from_numpy(sample.mels[2]).float()
        starts = range(len(whole) - 31)
        start = [torch.equal(whole[s : s + 32].T, mel) for s in starts].index(True)
        np.testing.assert_allclose(f0.numpy(), 1.25 * sample.f0[start : start + 32])


def test_chosen_vtlp_copies(module):
    assert module(vtlp_factors=[1.25]).cropping.input_copies == [2]
    assert module(vtlp_factors=[]).cropping.input_copies == []
    with pytest.raises(InputError, match=r"data\.vtlp_target_factors=0\.8: is not in"):
        module(vtlp_factors=[1.25], vtlp_target_factors=[0.8])
    with pytest.raises(InputError, match=r"data\.vtlp_factors=0\.7"):
        module(vtlp_factors=[0.7])


class Keys(CropStream):
    """Yields the keys of utterances in place of crops."""

    def crop(self, epoch, sample):
        return sample.key


def stream_of(many, n_epochs, epoch=0, runs=(), **settings):
    position = Position(epoch, runs, batch_size=2)
    settings = {"seed": 0, "shuffle_buffer": 4} | settings
    return Keys(many, n_epochs, None, position=position, **settings)  # it cuts no crops


def test_epoch_has_every_utterance_once(many):
    def epoch(number, n_ranks, n_workers, seed=0):
        keys = []
        for rank in range(n_ranks):
            ranks = {"process": (rank, n_ranks)}
            stream = stream_of(many, 1, number, seed=seed, **ranks)
            keys.append(list(DataLoader(stream, batch_size=None, num_workers=n_workers)))
        return keys

    alone = epoch(0, 1, 0)
    for keys in (epoch(0, 2, 2), epoch(1, 2, 2), epoch(5, 3, 0), alone):
        assert sorted(itertools.chain(*keys)) == list(range(37))
    assert alone == epoch(0, 1, 0)
    assert alone != epoch(1, 1, 0) != epoch(2, 1, 0)
    assert alone != epoch(0, 1, 0, seed=1)
    shard_order = [list(stream_of(many, 1, e, shuffle_buffer=1)) for e in (0, 1)]
    assert shard_order[0] != shard_order[1]


def test_stream_continues_with_next_epoch(many):
    stream = stream_of(many, 97, 3)
    keys = list(itertools.islice(stream, 3 * 37))
    parts = [keys[:37], keys[37:74], keys[74:]]
    assert all(sorted(part) == list(range(37)) for part in parts)
    assert parts[0] != parts[1] != parts[2]
    assert parts[1] == list(stream.of_epoch(4))


def test_processes_split_training_but_not_validation(module):
    parts = [module(rank, 2, num_workers=2, crop_frames=None) for rank in range(2)]
    assert [part.batches_per_epoch for part in parts] == [2, 2]
    mels = [mel for part in parts for mel in first(part.train_dataloader(), 2)]
    whole = [torch.from_numpy(s.mels[0]).float().T[None] for s in parts[0].train.read_all()]
    assert all(any(torch.equal(mel, other) for mel in mels) for other in whole)
    for batches in zip(*(part.val_dataloader() for part in parts), strict=True):
        assert torch.equal(batches[0].target_mel, batches[1].target_mel)
        assert torch.equal(batches[0].input_mel, batches[0].target_mel)


def test_the_same_seed_gives_the_same_batches(module):
    runs = [first(module(seed=s, num_workers=1).train_dataloader(), 6) for s in (1, 1, 2)]
    assert all(map(torch.equal, runs[0], runs[1]))
    assert not all(map(torch.equal, runs[0], runs[2]))


def test_epochs_go_on_through_the_stream(module):
    epochs = module().train_dataloader()
    assert len(epochs) == 4
    loaded = [batch.target_mel for _ in range(3) for batch in epochs]
    assert len(loaded) == 12
    stream = list(itertools.islice(DataLoader.__iter__(module().train_dataloader()), 12))
    assert all(map(torch.equal, loaded, [batch.target_mel for batch in stream]))


def test_without_shuffling_every_epoch_is_the_same(module):
    epochs = module(shuffle=False).train_dataloader()
    whole, again = first(epochs, 8), first(epochs, 8)
    assert len(whole) == 4
    assert all(map(torch.equal, whole, again))
    data = module(shuffle=False)
    data.resumed = {"batches": 6, "epochs": 2, "epoch": 0, "runs": [6], "readers": data._readers()}
    rest = data.train_dataloader()
    assert all(map(torch.equal, first(rest, 8), whole[2:]))
    assert all(map(torch.equal, first(rest, 8), whole))


@pytest.mark.parametrize("n_workers", [0, 2])
def test_resumed_stream_skips_read_shards(many, n_workers):
    """Each reader repeats at most one shard, and skips at most the crops in its buffer."""

    def taken(n, **position):
        loader = DataLoader(stream_of(many, 2, **position), batch_size=2, num_workers=n_workers)
        return list(itertools.chain(*(batch.tolist() for batch in itertools.islice(loader, n))))

    n_readers = max(1, n_workers)
    before, after = taken(8), taken(11, runs=(8,))
    assert len(set(before) & set(after[:16])) <= n_readers * (3 + 4)  # a shard and the buffer
    assert len(set(range(37)) - {*before, *after}) <= n_readers * 4
    assert after == taken(11, runs=(8,))
    # A run without batches does not move the position; one with batches does.
    assert taken(11, runs=(8, 0)) == after
    assert taken(11, runs=(8, 8)) != after


def test_resumes_in_reached_epoch(many):
    for n_batches, epoch in {0: 3, 18: 3, 19: 4, 36: 4, 37: 5}.items():  # 37 utterances, 2 a batch
        assert stream_of(many, 1, 3, (n_batches,)).place()[0] == epoch


def test_checkpoint_has_position(module, caplog):
    data = module()
    data.train_dataloader()
    for step, epochs in {0: 0, 1: 1, 4: 1, 5: 2}.items():
        set_batches(data, step)
        found = data.state_dict()
        assert (found["epochs"], found["batches"], found["runs"]) == (epochs, step, [step])
    resumed = module()
    resumed.load_state_dict(data.state_dict())
    caplog.set_level("INFO")
    (batch,) = first(resumed.train_dataloader(), 1)  # four shards of one utterance each
    assert "reading shards from where the checkpoint was saved" in caplog.text
    set_batches(resumed, 5 + 4)
    assert resumed.state_dict()["runs"] == [5, 4]
    skipped = module()
    skipped.resumed = data.state_dict()
    skipped.train_dataloader()
    (expected,) = first(
        DataLoader(stream_at(skipped, Position(1, (1,), 1)), **skipped._batches()), 1
    )
    assert torch.equal(batch, expected)


def set_batches(data, number):
    """Let a module's trainer have trained on a number of batches."""
    progress = SimpleNamespace(
        total=SimpleNamespace(processed=number), current=SimpleNamespace(processed=number)
    )
    data.trainer.fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))


def stream_at(data, position):
    stream = data.train_dataloader().dataset
    stream.position = position
    return stream


@pytest.mark.parametrize("change", [{"num_workers": 2}, {"batch_size": 2}, {"seed": 2}])
def test_changed_number_of_readers_starts_next_epoch(module, caplog, change):
    data = module()
    set_batches(data, 5)
    resumed = module(**change)
    resumed.load_state_dict(data.state_dict())
    caplog.set_level("INFO")
    resumed.train_dataloader()
    assert "reading shards from epoch 2" in caplog.text
    assert resumed.begun_at == Position(2)


def test_checkpoint_of_earlier_version_starts_next_epoch(module):
    resumed = module()
    resumed.load_state_dict({"epochs": 2, "batches": 5})
    resumed.train_dataloader()
    assert resumed.begun_at == Position(2)
    set_batches(resumed, 2 * 4 + 4)
    state = resumed.state_dict()
    assert (state["epochs"], state["epoch"], state["runs"]) == (3, 2, [4])


def test_speaker_mean_embeddings(data, tmp_path):
    data.speaker_embedding = "speaker"
    index = shard_writer.write(data, str(tmp_path), max_megabytes=1, max_utterances=3)
    data.speaker_embedding = "utterance"
    assert index.speaker_embedding == "speaker"
    voices = speaker_embeddings(data.train, data.files, data.needs.speaker_encoder.average)
    for sample in Shards(str(tmp_path), "train", index.train.shards, 3).read_all():
        assert np.array_equal(sample.embeddings, voices[sample.speaker].numpy())


def test_size_of_shards(data, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "MIN_SHARDS", 1)
    by_size = shard_writer.write(data, str(tmp_path / "a"), max_megabytes=0.15, max_utterances=100)
    assert by_size.train.shards == [2, 2]  # 128 frames of three copies are 60 kB
    assert max(path.stat().st_size for path in (tmp_path / "a").glob("*.tar")) < 150_000
    by_number = shard_writer.write(data, str(tmp_path / "b"), max_megabytes=100, max_utterances=3)
    assert by_number.train.shards == [2, 2]
    assert shard_writer.write(data, str(tmp_path / "c"), 100, 100).train.shards == [4]


@pytest.fixture
def run(folder, tmp_path):
    """Train a tiny network on shards by train.py's job; return the run's folder."""

    def run(*overrides, name="run", dir=folder):
        settings = {
            "data.crop_frames": 32,
            "data.num_workers": 0,
            "run_dir": tmp_path / name,
            "init_from": "null",
            "trainer.max_steps": 4,
            "trainer.precision": "32-true",
            "trainer.val_check_interval": 2,
            "logger": "csv",
            "callbacks.samples.every_n_steps": 2,
            "callbacks.samples.max_frames": 20,
            "callbacks.samples.vocoder.n_iter": 1,
        }
        listed = [f"{key}={value}" for key, value in settings.items()]
        config = composed("train", "data=shards", *listed, *TINY_OVERRIDES, *overrides)
        config.data.dir = str(dir)
        train.main(config)
        return tmp_path / name

    return run


def test_trains_on_shards_and_resumes(run, folder, caplog):
    read = ("logger=tensorboard", "data.num_workers=1")
    first_run = run(*read, name="first", dir=f"pipe:cat {folder}/{{}}")
    events = EventAccumulator(str(first_run / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert "val/loss" in events.Tags()["scalars"]
    assert len(events.Images("mel/man_to_woman")) == 2
    speakers = next((first_run / "tensorboard").rglob("metadata.tsv")).read_text().split()
    assert set(speakers) == {"man", "woman"}
    last = first_run / "checkpoints/last.ckpt"
    with caplog.at_level("INFO"):
        second = run(f"ckpt_path={last}", "trainer.max_steps=6", name="second")
    assert "reading shards from where the checkpoint was saved" in caplog.text
    assert checkpoints.read(second / "checkpoints/last.ckpt", "autovc")[1].step == 6


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        (["debug=overfit", "trainer.max_steps=5"], 5),
        (["trainer.max_steps=-1", "trainer.max_epochs=3", "data.crop_frames=null"], 6),
        (["data.vtlp_probability=1", "trainer.accumulate_grad_batches=2"], 4),
    ],
)
def test_trains_with_other_settings(run, overrides, steps):
    last = run(*overrides) / "checkpoints/last.ckpt"
    assert checkpoints.read(last, "autovc")[1].step == steps


def damaged(folder, tmp_path, damage):
    """Copy the shards, and replace the bytes of one by `damage` of them."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = copy / "train-000001.tar"
    path.write_bytes(damage(path.read_bytes()))
    return copy


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda tar: tar[:20_000], "unexpected end of data"),
        (lambda tar: tar[:1024], "holds 0|missing or damaged"),
        (lambda _: b"", "empty file"),
        (lambda _: b"not a tar" * 1000, "missing or damaged"),
        (lambda tar: tar[:9000] + bytes([tar[9000] ^ 1]) + tar[9001:], "wrong checksum"),
        (lambda _: bytes(10_240), "holds 0 utterances instead of 1"),
    ],
)
def test_refuses_damaged_shards(module, folder, tmp_path, damage, reason):
    data = module(dir=str(damaged(folder, tmp_path, damage)))
    with pytest.raises(InputError, match=rf"train-000001\.tar: .*({reason})"):
        list(data.train.read_all())


def test_damage_found_by_worker(run, folder, tmp_path, capsys):
    copy = damaged(folder, tmp_path, lambda tar: tar[:20_000])
    with pytest.raises(SystemExit) as stop:
        run("data.num_workers=2", "trainer.max_steps=9", dir=copy)
    assert stop.value.code == 2
    errors = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error:")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {copy}/train-000001.tar: is missing or damaged")


def test_repeats_broken_transfers(many, tmp_path, monkeypatch):
    """The command delivers only the first half of a shard when it is called first."""
    monkeypatch.setattr(shards, "RETRY_SECONDS", 0)
    command = f"if mkdir {tmp_path}/{{}} 2>&-; then head -c 100000; else cat; fi"
    far = Shards(f"pipe:({command}) < {many.place}/{{}}", "train", many.counts[:3], many.n_copies)
    assert [sample.key for sample in far.read_all()] == list(range(sum(many.counts[:3])))
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(InputError, match=r"exit 3/train-000000\.tar: is missing or damaged"):
        list(Shards("pipe:exit 3", "train", [1], 3).read(0))


def test_refuses_mismatched_shards(module, folder, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="ref_db 16 != 0"):
        module(mel={"ref_db": 0})
    with pytest.raises(
        InputError, match=r"made with embeddings of ge2e-.* speaker encoder is other; give"
    ):
        module(encoder_identity="other")
    with pytest.raises(InputError, match="4 training shards are fewer than 2 processes × 3 work"):
        module(world_size=2, num_workers=3).train_dataloader()
    index = shards.read_index(str(folder))
    monkeypatch.setattr(
        module_of_shards, "read_index", lambda _: replace(index, pitch_tracker=None)
    )
    module(f0=False)
    message = "the shards hold no pitch, this training run needs pitch of"
    with pytest.raises(InputError, match=message):
        module(f0=True)
    monkeypatch.setattr(
        module_of_shards, "read_index", lambda _: replace(index, pitch_tracker="pyin")
    )
    with pytest.raises(InputError, match=r"hold pitch of pyin, .* pitch of swift-f0 \d.*; write"):
        module(f0=True)
    teacher = SimpleNamespace(identity="whisper-12345678")
    with pytest.raises(InputError, match=r"hold no teacher features, .* those of whisper-12345678"):
        module(teacher=teacher)
    monkeypatch.setattr(
        module_of_shards, "read_index", lambda _: replace(index, teacher="hubert-1")
    )
    with pytest.raises(InputError, match=r"hold teacher features of hubert-1, .* teacher=none"):
        module(teacher=teacher)
    monkeypatch.undo()
    with pytest.raises(InputError, match="say where the shards are"):
        module(dir=None)
    with pytest.raises(InputError, match=r"its index\.json cannot be read \(No such file"):
        module(dir=str(tmp_path))
    with pytest.raises(InputError, match="no gopen handler"):
        module(dir="s4://bucket/folder")
    (tmp_path / "index.json").write_text("[]")
    with pytest.raises(InputError, match=r"its index\.json cannot be read"):
        module(dir=str(tmp_path))
    index = shards.read_index(str(folder))
    (tmp_path / "index.json").write_text(json.dumps(vars(replace(index, format=9)), default=vars))
    with pytest.raises(InputError, match="of format 9, this program reads 3"):
        module(dir=str(tmp_path))
    monkeypatch.setattr(shards, "webdataset", None)
    hint = r"data=shards needs .* pip install 'vc-lightning\[shards\]'"
    with pytest.raises(InputError, match=hint):
        module()


def test_reads_index_of_version_0_3_0(folder, tmp_path):
    index = shards.read_index(str(folder))
    old = vars(index) | {"warps": index.vtlp_factors}
    del old["vtlp_factors"]
    (tmp_path / "index.json").write_text(json.dumps(old, default=vars))
    assert shards.read_index(str(tmp_path)) == index


def test_refuses_incomplete_shards(module, data, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(data, "mean_mel", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shard_writer.write(data, str(tmp_path), 100, 100)
    assert list(tmp_path.glob("*.tar"))
    with pytest.raises(InputError, match=r"that `prepare\.py shards` has completed"):
        module(dir=str(tmp_path))
    with pytest.raises(InputError, match="is not empty; name a new folder"):
        shard_writer.write(data, str(tmp_path), 100, 100)


def test_refuses_folder_before_extraction(preparation, tmp_path, capsys):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(SystemExit):
        prepare.main(
            composed(
                *("prepare", *preparation, "data.dir=missing", f"run_dir={tmp_path}"),
                *("verb=shards", f"output={tmp_path}"),
            )
        )
    assert "is not empty" in capsys.readouterr().err


def test_shards_on_the_hub(module, folder, monkeypatch, tmp_path):
    """A lab shares features once: data.manifest=hf://datasets/OWNER/NAME."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with hub_server.running() as (hub, address):
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        commit = hub.commit("datasets/lab/features", files)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        HfFileSystem.clear_instance_cache()
        data = module(dir=f"hf://datasets/lab/features@{commit}")
        loaded, expected = (first(d.train_dataloader(), 4) for d in (data, module()))
        assert all(map(torch.equal, loaded, expected))
        with pytest.raises(InputError, match=r"hf://datasets/lab/none: its index\.json cannot"):
            module(dir="hf://datasets/lab/none")


def test_a_manifest_on_the_hub_means_shards():
    assert translate(["data.manifest=hf://datasets/a/b", "data.manifest=c.tsv"]) == [
        *("data=shards", "data.dir='hf://datasets/a/b'", "data.manifest='c.tsv'")
    ]
