"""Weights on a hub: huggingface_hub's own client against a local server of its protocol."""

import json

import pytest
import torch
import yaml
from safetensors import safe_open

import hub_server
from helpers import ROOT, SOURCE, TARGET, composed, tiny_multiband
from vc_lightning import VoiceConverter
from vc_lightning.commands import convert, export
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.models import checkpoints
from vc_lightning.models.checkpoints import Card
from vc_lightning.models.files import hub
from vc_lightning.models.files.sharing import licence_name, model_card, push_to_hub

constants = pytest.importorskip("huggingface_hub.constants", reason="the extra hub is missing")


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A hub; the client has an empty cache and no token."""
    with hub_server.running() as (made, address):
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # it has servers of its own
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr("time.sleep", lambda _: None)  # between the client's attempts
        yield made


@pytest.fixture
def stored(server, tiny_checkpoint):
    """The tiny network in two revisions: the last one is on main, the first one tagged."""
    old = server.commit("ann/voices", {"model.safetensors": tiny_checkpoint.read_bytes()})
    server.tags["ann/voices", "v1"] = old
    state, card = checkpoints.read(tiny_checkpoint, "autovc")
    new = tiny_checkpoint.with_name("new.safetensors")
    checkpoints.save(new, {key: value * 2 for key, value in state.items()}, card)
    content = new.read_bytes()
    server.commit("ann/voices", {"model.safetensors": content, "a/b.safetensors": content})
    return tiny_checkpoint


def weight(path):
    return next(iter(checkpoints.load_autovc(path).parameters()))


def refusal(path):
    """The one sentence about an address."""
    with pytest.raises(InputError) as caught:
        checkpoints.load_autovc(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.startswith("hf://")
    return sentence


def test_parses_addresses(server, stored):
    expected = weight(stored)
    assert torch.equal(weight("hf://ann/voices@v1"), expected)
    assert torch.equal(weight("hf://ann/voices"), 2 * expected)
    assert torch.equal(weight("hf://ann/voices/a/b.safetensors@main"), 2 * expected)


def test_cached_file_works_offline(server, stored, monkeypatch):
    first = weight("hf://ann/voices")
    assert torch.equal(weight("hf://ann/voices"), first)
    assert server.downloads == ["ann/voices/model.safetensors"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(weight("hf://ann/voices"), first)
    assert "HF_HUB_OFFLINE" in refusal("hf://ann/voices/a/b.safetensors")


def test_from_pretrained_repository(server, stored):
    converter = VoiceConverter.from_pretrained("ann/voices", revision="v1")
    assert torch.equal(next(converter.autovc.parameters()), weight(stored))
    assert converter.checkpoint.startswith("model.safetensors ")


def test_vocoder_and_init_from_hub(server, stored, tmp_path, run):
    vocoder = tiny_multiband()
    card = Card("multiband_wavernn", vocoder.arguments, {"hop_length": 32, "n_mels": 5})
    path = checkpoints.save(tmp_path / "v.safetensors", vocoder.state_dict(), card)
    server.commit("bob/vocoder", {"model.safetensors": path.read_bytes()})
    made = checkpoints.load_wavernn("hf://bob/vocoder")
    assert torch.equal(made.envelope, vocoder.envelope.float())
    folder = run("init_from=hf://ann/voices@v1", "trainer.max_steps=1", "optimizer.lr=1e-30")
    last = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    trained = next(value for key, value in last.items() if key.startswith("network."))
    assert torch.allclose(trained, weight(stored))


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("hf://ann/none", "no such repository, or it is private"),
        ("hf://ann/voices@v9", "no such revision"),
        ("hf://ann/voices/none.safetensors", "no such file"),
        ("hf://ann/voices/model.pt", "only .safetensors files are read"),
        ("hf://ann/voices/pytorch_model.bin@main", "only .safetensors files are read"),
        ("hf://ann", "write hf://OWNER/REPO"),
        ("hf://ann/voices@", "write hf://OWNER/REPO"),
        ("hf://ann/..", "is not an address on a hub"),
        ("hf://ann/voices/../../x.safetensors", "write hf://OWNER/REPO"),
    ],
)
def test_refuses_missing_repositories_and_files(server, stored, address, sentence):
    assert sentence in refusal(address)


def test_gated_repositories_and_tokens(server, stored, tmp_path):
    server.private.add("ann/voices")
    assert "hf auth login" in refusal("hf://ann/voices")
    (tmp_path / "token").write_text(hub_server.TOKEN)
    assert len(weight("hf://ann/voices"))
    server.gated.add("ann/voices")
    assert "grants access on request" in refusal("hf://ann/voices@v1")


def test_refuses_falsified_file(server, stored):
    server.falsified = True
    assert "did not have the hub's hash" in refusal("hf://ann/voices")
    server.falsified = False
    assert len(weight("hf://ann/voices"))


def test_interrupted_download_continues(server, stored):
    server.truncated = True
    assert "the transfer failed" in refusal("hf://ann/voices")
    server.truncated = False
    assert torch.equal(weight("hf://ann/voices@v1"), weight(stored))


def test_refuses_renamed_pickle(server, stored, tmp_path):
    torch.save({"model": {}}, tmp_path / "x.pt")
    server.commit("bob/bad", {"model.safetensors": (tmp_path / "x.pt").read_bytes()})
    assert "is not a safetensors file" in refusal("hf://bob/bad")


def test_unreachable_hub(server, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SystemExit) as stopped:
        convert.main(
            composed("convert", f"source={SOURCE}", f"target={TARGET}", "ckpt='hf://ann/v@v1'")
        )
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: hf://ann/v/model.safetensors@v1: is not in the cache, and the")
    assert error.count("\n") == 1


def test_pushed_file_is_usable_and_has_card(server, tiny_checkpoint, tmp_path, caplog):
    caplog.set_level("INFO")
    settings = f"ckpt={tiny_checkpoint}", "hub=ann/mine", "hub_private=true"
    with pytest.raises(SystemExit) as stopped:
        export.main(composed("export", *settings))
    assert stopped.value.code == 2  # without a token
    (tmp_path / "token").write_text(hub_server.TOKEN)
    export.main(composed("export", *settings))
    assert "/ann/mine/commit/" in caplog.text
    assert "ann/mine" in server.private
    assert torch.equal(weight("hf://ann/mine"), weight(tiny_checkpoint))
    _, files = server.files("ann/mine", "main")
    assert set(files) == {"model.safetensors", "README.md"}
    front = files["README.md"].decode().split("---\n")[1]
    assert yaml.safe_load(front)["library_name"] == "vc_lightning"
    server.commit("ann/mine", {"README.md": b"my own words"})
    export.main(composed("export", *settings))  # a card that is there stays
    assert server.files("ann/mine", "main")[1]["README.md"] == b"my own words"


@pytest.mark.parametrize(
    "path", sorted(resources.CHECKPOINTS.glob("*.safetensors")), ids=lambda path: path.stem
)
def test_every_shipped_file_can_be_pushed(path, server, tmp_path):
    (tmp_path / "token").write_text(hub_server.TOKEN)
    push_to_hub(path, "ann/mine")
    files = server.files("ann/mine", "main")[1]
    assert set(files) == {"model.safetensors", "README.md"}
    if path.stem == "source_filter":
        assert b"vocoder=source_filter vocoder.path=hf://ann/mine\n" in files["README.md"]


def test_model_card_content():
    shipped = ROOT / "checkpoints" / "autovc.safetensors"
    with safe_open(shipped, "pt") as file:
        header = json.loads(file.metadata()[checkpoints.METADATA_KEY])
    text = model_card(Card(**header), "ann/mine")
    assert text.startswith("---\nlibrary_name: vc_lightning\n")
    assert f"license: {licence_name(header['licence'])}\n" in text
    assert 'from_pretrained("ann/mine")' in text
    for value in (header["trained_on"], header["speaker_encoder"], f"{header['step']} steps"):
        assert value in text
    assert f"| freq | {header['network']['freq']} |" in text
    assert f"| sample_rate | {header['mel']['sample_rate']} |" in text


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("CC BY-SA 4.0, with credits", "cc-by-sa-4.0"),
        ("cc-by-4.0", "cc-by-4.0"),
        ("Apache-2.0", "apache-2.0"),
        ("MIT licence", "mit"),
        ("limited", "other"),
        ("", "other"),
    ],
)
def test_licence_names(words, name):
    assert licence_name(words) == name


def test_local_paths_are_unchanged():
    for path in ("a.safetensors", "hf/a/b", "x/hf://a/b"):
        assert hub.local_path(path) == path
