"""Whose voice is heard in the sound of the converter's mels."""

import torch

from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import resources
from vc_lightning.common.resources import settings, weights
from vc_lightning.models import pitch_tracker
from vc_lightning.models.checkpoints import load_speaker_encoder, load_vocoder
from vc_lightning.models.critics.voice import VoiceCritic


def crop_of(name, mel):
    wav = mel.prepare(*io.load(resources.ROOT / "examples" / name))[: 3 * mel.sample_rate]
    f0 = torch.from_numpy(pitch_tracker.track(wav, mel.sample_rate, mel.hop_length)).float()
    frames = mel(torch.from_numpy(wav))
    return frames[None, :, : len(f0)], f0[None, : frames.shape[-1]], wav


def test_hears_whose_voice_a_mel_is():
    mel, encoder = MelSpectrogram(**settings("mel", "autovc")), load_speaker_encoder()
    critic = VoiceCritic(load_vocoder(weights("source_filter")), encoder)
    with torch.no_grad():
        heard, recorded = [], []
        for name in ("source.wav", "target.wav"):
            frames, f0, wav = crop_of(name, mel)
            heard.append(critic(frames, f0))
            partial = encoder.mel(torch.from_numpy(wav))[None, :, : encoder.partial_frames]
            recorded.append(encoder(partial))
    cosines = torch.cat(heard) @ torch.cat(recorded).T
    assert (cosines.diagonal() > 0.85).all(), cosines
    assert (cosines.diagonal() - cosines.flip(0).diagonal() > 0.2).all(), cosines
    assert not any(p.requires_grad for p in critic.parameters())


def test_a_step_along_the_gradient_sounds_more_like_the_voice():
    mel, encoder = MelSpectrogram(**settings("mel", "autovc")), load_speaker_encoder()
    critic = VoiceCritic(load_vocoder(weights("source_filter")), encoder)
    frames, f0, _ = crop_of("source.wav", mel)
    with torch.no_grad():
        wanted = critic(*crop_of("target.wav", mel)[:2])
    frames.requires_grad_()
    before = (critic(frames, f0) * wanted).sum()
    (gradient,) = torch.autograd.grad(before, frames)
    with torch.no_grad():
        after = (critic(frames + 1e-3 * gradient.sign(), f0) * wanted).sum()
    assert after > before + 0.005
