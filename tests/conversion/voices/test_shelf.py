"""The folder of learned voices."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vc_lightning.common.errors import InputError
from vc_lightning.conversion.voices.consent import Consent
from vc_lightning.conversion.voices.shelf import VoiceShelf
from vc_lightning.conversion.voices.voice import Voice, VoiceSample
from voice_helpers import ANNA, ENCODER, VOICE, old_files, require_same


@pytest.fixture
def shelf(tmp_path):
    """A shelf with one voice."""
    shelf = VoiceShelf(tmp_path / "new" / "folder")
    shelf.put(ANNA)
    return shelf


class Converter:
    """Averages nothing: the voice of samples is the first one's."""

    def __init__(self, encoder=ENCODER, checkpoint="autovc.safetensors 01234567", attends=True):
        self.networks = SimpleNamespace(encoder_identity=encoder)
        self.autovc = SimpleNamespace(has_reference=attends)
        self.checkpoint = checkpoint

    def voice_from(self, samples):
        first, *_ = samples
        return Voice(first.embedding, reference=first.reference)

    def voice(self, recordings):
        return recordings


def test_stores_and_finds_voices(shelf):
    require_same(shelf.get("Anna"), ANNA)
    assert shelf.path_of("Anna").name == "Anna.voice.safetensors"
    assert np.array_equal(shelf.voice("Anna", Converter()).embedding, VOICE.embedding)
    with pytest.raises(InputError, match="voice Anna was made with embeddings of ge2e-01234567"):
        shelf.voice("Anna", Converter("ge2e-76543210"))
    assert shelf.find("Anna", Converter()).pitch == VOICE.pitch
    assert shelf.find(("a.wav",), Converter()) == ("a.wav",)
    samples = {"a.wav": VoiceSample(np.ones(3), np.zeros(3), np.ones(1, bool), 1.0)}
    assert shelf.find(("a.wav",), Converter(), samples.get).embedding is samples["a.wav"].embedding


def test_learns_voices(shelf):
    known = VOICE.embedding, np.zeros(3), np.ones(1, bool)
    samples = [VoiceSample(*known, seconds) for seconds in (2.22, 3.3)]
    learned = shelf.learn("Ben", samples, Converter(), made_by="me", licence="CC0")
    assert (learned.n_recordings, learned.seconds) == (2, 5.5)
    require_same(shelf.get("Ben"), learned)


def test_reference_belongs_to_the_weights_that_made_it(shelf, caplog):
    """A voice learned with other weights converts without its reference, and says why."""
    reference = np.random.default_rng(0).standard_normal((50, 208)).astype(np.float32)
    sample = VoiceSample(VOICE.embedding, np.zeros(3), np.ones(1, bool), 1.0, reference)
    learned = shelf.learn("Ben", [sample], Converter())
    assert learned.network == "autovc.safetensors 01234567"
    np.testing.assert_allclose(shelf.voice("Ben", Converter()).reference, reference, atol=1e-3)
    assert not caplog.messages
    other = Converter(checkpoint="autovc.safetensors 76543210")
    assert shelf.voice("Ben", other).reference is None
    assert caplog.messages == [
        "voice Ben: was learned with autovc.safetensors 01234567; learn it again, so that it "
        "sounds more like its speaker"
    ]
    assert shelf.voice("Anna", Converter()).reference is None
    assert "an older version; learn it again" in caplog.messages[1]
    assert shelf.voice("Anna", Converter(attends=False)).reference is None
    assert len(caplog.messages) == 2


def test_file_name_is_the_name(shelf):
    shelf.path_of("Anna").rename(shelf.path_of("Berta"))
    assert shelf.names() == ["Berta"]
    assert shelf.get("Berta").name == "Berta"


def test_lists_names_and_replaces_voices(shelf):
    for name in ("ж", "anna", "anna"):
        shelf.put(replace(ANNA, name=name))
    (shelf.folder / "notes.txt").touch()
    assert shelf.names() == ["Anna", "anna", "ж"]
    assert VoiceShelf(shelf.folder / "missing").names() == []
    with pytest.raises(InputError, match=r"voice ben: not learned yet; in .* are: Anna, anna, ж"):
        shelf.get("ben")


def test_new_voice_replaces_files_of_0_3(tmp_path, speech):
    old_files(tmp_path, speech)
    shelf = VoiceShelf(tmp_path)
    assert shelf.names() == ["Anna"]
    shelf.put(replace(ANNA, made_by="somebody else"))
    assert [path.name for path in tmp_path.iterdir()] == ["Anna.voice.safetensors"]
    assert shelf.get("Anna").made_by == "somebody else"


def test_forgets_voices(tmp_path, speech):
    old_files(tmp_path, speech)
    shelf = VoiceShelf(tmp_path)
    shelf.put(replace(ANNA, name="Ben"))
    shelf.forget("Anna")
    assert shelf.names() == ["Ben"]
    shelf.forget("Ben")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["", ".hidden", "a/b", "../a", "a\\b", "a\n", "-a", "x" * 65, "a:b"]
)
def test_refuses_unsafe_names(shelf, name):
    with pytest.raises(InputError, match="name it by"):
        shelf.path_of(name)


def test_import_overwrites_nothing(shelf, tmp_path):
    shared = shelf.export(ANNA, tmp_path / "anna.safetensors")
    before, stored = shared.read_bytes(), shelf.path_of("Anna").read_bytes()
    with pytest.raises(InputError, match=r"anna\.safetensors: exists already"):
        shelf.export(ANNA, shared)
    assert shared.read_bytes() == before
    with pytest.raises(InputError, match=r"there is a voice Anna already; .* name="):
        shelf.add(shared, None, ENCODER)
    assert shelf.path_of("Anna").read_bytes() == stored
    assert shelf.add(shared, "Anna 2", ENCODER).name == "Anna 2"
    require_same(replace(shelf.get("Anna 2"), name="Anna"), ANNA)


def test_export_needs_consent(shelf, tmp_path):
    with pytest.raises(InputError, match=r"only with its speaker's consent; add consent="):
        shelf.export(replace(ANNA, consent=None), tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_keeps_spoken_consent(shelf, speech):
    shelf.put(replace(ANNA, consent=Consent("", "today", speech)))
    np.testing.assert_allclose(shelf.get("Anna").consent.wav, speech, atol=1e-4)


def test_refuses_other_encoder(shelf, tmp_path):
    shared = shelf.export(ANNA, tmp_path / "anna.safetensors")
    with pytest.raises(InputError, match="made with embeddings of ge2e-01234567"):
        VoiceShelf(tmp_path / "theirs").add(shared, None, "ge2e-76543210")
    assert not (tmp_path / "theirs").exists()
