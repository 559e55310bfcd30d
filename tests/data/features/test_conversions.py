import pytest
import torch

from helpers import DATA_DEFAULTS, data_module
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.data.crops.mel import Crops
from vc_lightning.data.features import conversions
from vc_lightning.data.modules.voice import VoiceSettings
from vc_lightning.models import checkpoints
from vc_lightning.models.checkpoints import load_recogniser


@pytest.fixture
def module(mel_settings, encoder, corpus, tmp_path):
    """Make and set up data modules with conversions by given weights."""

    def make(path, **changes):
        values = DATA_DEFAULTS | {"dir": str(corpus), "cache_dir": str(tmp_path / "cache")}
        values |= {"conversions_from": str(path), "conversions_share": 0.5} | changes
        mel = MelSpectrogram(**mel_settings)
        identity = checkpoints.identity("ge2e", encoder.state_dict())
        data = data_module(VoiceSettings, mel, encoder, identity, **values)
        data.setup()
        return data

    return make


def test_conversions_are_those_of_a_converter_into_another_speaker(module):
    recogniser = load_recogniser()
    shipped = resources.weights("autovc")
    needs = {"f0": True, "recogniser": recogniser, "acoustics": True, "reference": True}
    data = module("shipped", **needs)
    files, copy = data.files, data.files.converted
    source = next(u for u in data.train if u.speaker == "man")
    own, n = files.of(source.segment), source.n_frames
    voices = [files.of(u.segment).read_embedding() for u in data.train]
    (chosen,) = (i for i, v in enumerate(voices) if torch.equal(v, own.read_embedding(copy)))
    assert data.train[chosen].speaker == "woman"
    converter = VoiceConverter.from_checkpoint(shipped)
    voice = converter.voice(data.train[chosen].path)
    analyzed = converter.analyze(source.path)
    (mel,) = converter.converted_mel(analyzed, voice)
    made = own.read_mel(0, n, copy)
    assert (made - mel[0].clamp(0, 1)).abs().mean() < 0.01
    heard = recogniser.hear(converter.convert_analyzed([analyzed], [voice])[0], n, 62.5).T
    difference = (own.read_heard(0, n, copy) - torch.from_numpy(heard)).square().mean()
    assert difference < 0.1 * (own.read_heard(0, n) - torch.from_numpy(heard)).square().mean()


def test_a_share_of_the_inputs_are_conversions_of_the_same_frames(module, tiny_checkpoint):
    data = module(tiny_checkpoint, speaker_embedding="speaker")
    files, copy = data.files, data.files.converted
    crops = Crops(data.features_of(data.train), data.cropping, seed=0)
    entry = files.of(data.train[0].segment)
    n = entry.n_frames
    recorded, converted = entry.read_mel(0, n), entry.read_mel(0, n, copy)
    seen = []
    for position in range(200):
        crop = crops[0, position, 0]
        (start,) = (s for s in range(n) if torch.equal(recorded[:, s : s + 64], crop.target_mel))
        seen.append(torch.equal(crop.input_mel, converted[:, start : start + 64]))
        if seen[-1]:
            assert torch.equal(crop.input_embedding, entry.read_embedding(copy))
        else:
            assert torch.equal(crop.input_mel, crop.target_mel)
    assert 70 < sum(seen) < 130
    for batch in module(tiny_checkpoint, val_fraction=0.4).val_dataloader():
        assert torch.equal(batch.input_mel, batch.target_mel)


def test_conversions_are_made_once_for_the_same_weights(
    module, tiny_checkpoint, tiny_autovc, monkeypatch
):
    files = module(tiny_checkpoint).files
    content = module(tiny_checkpoint).train[0].segment.content
    monkeypatch.setattr(conversions.ConversionWriter, "write", None)
    assert module(tiny_checkpoint).files.path("mels", content, 1).is_file()
    state = {key: value + 0.01 for key, value in tiny_autovc.state_dict().items()}
    _, card = checkpoints.read_autovc(tiny_checkpoint)
    checkpoints.save(tiny_checkpoint, state, card)
    monkeypatch.undo()
    assert module(tiny_checkpoint).files.path("mels", content, 1) != files.path("mels", content, 1)


def test_refuses_what_cannot_convert(module, tiny_checkpoint, tmp_path):
    with pytest.raises(InputError, match=r"data.conversions_from=shipped.*other features"):
        module("shipped")
    table = tmp_path / "one.tsv"
    table.write_text("path\tspeaker\nman/0.wav\ta\nman/1.wav\ta\n")
    with pytest.raises(InputError, match=r"data.conversions_from=.*needs two speakers"):
        module(tiny_checkpoint, manifest=str(table))
    with pytest.raises(InputError, match=r"data.conversions_share=1.5"):
        module(tiny_checkpoint, conversions_share=1.5)
