"""The critic that training compares mels by."""

import pytest
import torch

from helpers import SOURCE, TARGET
from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.errors import InputError
from vc_lightning.common.resources import settings
from vc_lightning.models.checkpoints import load_speaker_critic
from vc_lightning.models.critics.speaker import critic_losses


@pytest.fixture(scope="module")
def critic():
    return load_speaker_critic(settings("mel", "autovc"))


@pytest.fixture(scope="module")
def mels():
    """Two recordings of two people, each in two halves."""
    mel = MelSpectrogram(**settings("mel", "autovc"))
    whole = [mel(torch.from_numpy(mel.prepare(*io.load(path)))[None]) for path in (SOURCE, TARGET)]
    return [half for one in whole for half in one.chunk(2, dim=-1)]


def test_shipped_critic_tells_the_speakers_of_the_examples_apart(critic, mels):
    embeddings = torch.cat([critic(mel)[0] for mel in mels])
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    similarity = embeddings @ embeddings.T
    same = min(similarity[0, 1], similarity[2, 3])
    assert same > similarity[:2, 2:].max() + 0.1


def test_hears_no_microphones(critic, mels):
    """A filter adds a constant to each band of a mel, which is logarithmic."""
    filtered = mels[0] + torch.linspace(-0.1, 0.1, 80)[:, None]
    torch.testing.assert_close(critic(filtered)[0], critic(mels[0])[0], atol=1e-4, rtol=0)


def test_losses_are_of_the_mel_alone(critic, mels):
    recorded = mels[0].clone().requires_grad_()
    heard = critic(mels[0])
    losses = critic_losses(heard, critic(recorded))
    assert [loss.item() for loss in losses] == pytest.approx([0, 0], abs=1e-5)
    blurred = torch.nn.functional.avg_pool1d(recorded, 5, 1, 2)
    features, distance = critic_losses(critic(blurred), heard)
    assert features > 0.1
    assert 0 < distance < 1
    (features + distance).backward()
    assert recorded.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in critic.parameters())


def test_refuses_other_mels():
    with pytest.raises(
        InputError, match=r"mel settings of the speaker critic and this training run differ \(fmin"
    ):
        load_speaker_critic(settings("mel", "autovc") | {"fmin": 0})
