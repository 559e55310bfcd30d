"""AutoVC's training loss, term by term."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vc_lightning.audio import pitch
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.data.crops.mel import CropBatch
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.critics.speaker import SpeakerCritic, critic_losses
from vc_lightning.models.critics.voice import VoiceCritic
from vc_lightning.models.critics.word import WordCritic, feature_distance

LIVE_EVERY = 2  # crops of a batch, of which one trains the live encoder
HEARD_EVERY = 2  # crops of a batch, of which the recogniser hears one, and one is converted
MIN_LIVE_FRAMES = 32  # of crops that are cut like the input of a stream
DISTANCES = {"l1": torch.abs, "l2": torch.square}


@dataclass(frozen=True)
class Critics:
    """Frozen networks that judge mels, None without one.

    This is not a module, so that they belong neither to checkpoints nor to the optimizer.

    Attributes:
        speaker: Tells speakers apart by mels.
        words: Hears what is spoken in mels.
        voice: Hears whose voice the sound of mels is.
    """

    speaker: SpeakerCritic | None = None
    words: WordCritic | None = None
    voice: VoiceCritic | None = None

    def to(self, device: torch.device) -> None:
        """Move all of them to a device."""
        for critic in (self.speaker, self.words, self.voice):
            if critic:
                critic.to(device)


@dataclass(frozen=True)
class Heard:
    """What critics hear in the recorded crops of a batch, None without such a critic.

    Attributes:
        voices: Embeddings (B, dim_emb) and layers' outputs, see `SpeakerCritic`.
        words: (about B / `HEARD_EVERY`, D, 50 a second), see `WordCritic` and `heard_parts`.
    """

    voices: tuple[Tensor, list[Tensor]] | None
    words: Tensor | None


@dataclass(frozen=True)
class Valid:
    """Masks and numbers of the elements of a batch that are not padding.

    Attributes:
        frames: (B, 1, T), 1 for frames and 0 for padding.
        codes: (B, 1, ⌈T/freq⌉), 1 for codes that cover at least one frame, else 0.
        n_frames: (), number of valid frames; with several processes, the mean over them.
        n_codes: (), number of valid codes, likewise.
    """

    frames: Tensor
    codes: Tensor
    n_frames: Tensor
    n_codes: Tensor


def valid_elements(lengths: Tensor, size: int, freq: int) -> Valid:
    """Make the masks of a batch.

    Args:
        lengths: (B,), number of frames of each utterance.
        size: Number of frames of the batch, padding included.
        freq: Frames per code.
    """
    frames = valid_mask(lengths, size)
    codes = valid_mask(torch.ceil(lengths / freq), -(-size // freq))
    return Valid(frames, codes, frames.sum(), codes.sum())


def valid_mask(lengths: Tensor, size: int) -> Tensor:
    """Turn lengths (B,) into a float mask (B, 1, size), 1 where an element is not padding."""
    positions = torch.arange(size, device=lengths.device)
    return (positions < lengths[:, None]).float()[:, None]


def masked_mean(values: Tensor, mask: Tensor, count: Tensor) -> Tensor:
    """Average values (B, C, T) where mask (B, 1, T) is 1, which holds `count` ones."""
    return (values * mask).sum() / (count * values.shape[1])


def autovc_losses(
    mel: Tensor,
    decoder_mel: Tensor,
    postnet_mel: Tensor,
    codes: Tensor,
    postnet_codes: Tensor | None,
    valid: Valid,
    distance: str = "l2",
) -> dict[str, Tensor]:
    """Compute the terms of AutoVC's loss (Qian et al. 2019, equations 6 and 7).

    Each is a mean over valid elements.

    Args:
        mel: (B, n_mels, T), the target.
        decoder_mel: (B, n_mels, T), the decoder's reconstruction.
        postnet_mel: (B, n_mels, T), the postnet's reconstruction.
        codes: (B, C, ⌈T/freq⌉), codes of the input.
        postnet_codes: Codes of `postnet_mel`; None leaves out the content term.
        valid: Masks of the elements that count.
        distance: Distance between mels, one of `DISTANCES`.

    Returns:
        `postnet` and `decoder`, mean squared errors (l2, as in the paper) or mean absolute errors
        (l1); `content`, a mean absolute error.

    Raises:
        ValueError: Shapes differ, so that broadcasting would compare the wrong elements.
    """
    if not mel.shape == decoder_mel.shape == postnet_mel.shape:
        shapes = f"{mel.shape}, {decoder_mel.shape}, {postnet_mel.shape}"
        raise ValueError(f"mels of different shapes: {shapes}")
    if postnet_codes is not None and codes.shape != postnet_codes.shape:
        raise ValueError(f"codes: {codes.shape} != {postnet_codes.shape}")
    error = DISTANCES[distance]
    frames, n_frames = valid.frames, valid.n_frames
    terms = {
        "postnet": masked_mean(error(postnet_mel - mel), frames, n_frames),
        "decoder": masked_mean(error(decoder_mel - mel), frames, n_frames),
    }
    if postnet_codes is not None:
        difference = (postnet_codes - codes).abs()
        terms["content"] = masked_mean(difference, valid.codes, valid.n_codes)
    return terms


@torch.no_grad()
def normalized_losses(
    terms: dict[str, Tensor],
    mel: Tensor,
    mean_mel: Tensor,
    codes: Tensor,
    valid: Valid,
    distance: str,
) -> dict[str, Tensor]:
    """Divide terms of the loss by those of a constant output.

    Args:
        terms: See `autovc_losses`.
        mel: (B, n_mels, T), the target.
        mean_mel: The mean mel of the training data, of the same shape.
        codes: (B, C, ⌈T/freq⌉), codes of the input.
        valid: Masks of the elements that count.
        distance: See `autovc_losses`.

    Returns:
        `postnet_ratio` and `decoder_ratio`, relative to the error of the mean mel; `content_ratio`,
        relative to that of constant codes.
    """
    deviation = DISTANCES[distance](mel - mean_mel)
    mean_mel_error = masked_mean(deviation, valid.frames, valid.n_frames)
    ratios = {
        "postnet_ratio": terms["postnet"] / mean_mel_error,
        "decoder_ratio": terms["decoder"] / mean_mel_error,
    }
    if "content" in terms:
        deviation = (codes - codes_mean(codes, valid)).abs()
        constant_codes_error = masked_mean(deviation, valid.codes, valid.n_codes)
        ratios["content_ratio"] = terms["content"] / constant_codes_error.clamp(min=1e-8)
    return ratios


def codes_mean(codes: Tensor, valid: Valid) -> Tensor:
    """Average codes (B, C, L) that are not padding -> (1, C, 1)."""
    return (codes * valid.codes).sum(dim=(0, 2), keepdim=True) / valid.codes.sum()


@torch.no_grad()
def codes_std(codes: Tensor, valid: Valid) -> Tensor:
    """Compute the standard deviation of codes (B, C, L) around their channels' means."""
    deviation = (codes - codes_mean(codes, valid)).square()
    return masked_mean(deviation, valid.codes, valid.n_codes).sqrt()


def live_loss(network: AutoVC, batch: CropBatch, codes: Tensor, aligns: bool, step: int) -> Tensor:
    """Compare codes with those of the live encoder: a mean absolute error.

    The live encoder learns from every second crop, to save time, and these crops are cut at a
    random frame: in a stream, the sound also ends soon after the frames that are needed. While
    the new encoder is being aligned, it learns from the live encoder instead, and from all
    crops, whole.

    Args:
        network: A network that listens.
        batch: The batch.
        codes: (B, C, ⌈T/freq⌉), codes of what the recogniser hears.
        aligns: Whether the gradient reaches `codes` instead of the live encoder.
        step: Number of optimizer steps, on which alone the cut depends, for exact resume.
    """
    learns = torch.is_grad_enabled() and not aligns
    part = slice(None, None, LIVE_EVERY if learns else 1)
    n_frames = batch.target_mel.shape[-1]
    shortest = max(MIN_LIVE_FRAMES, network.freq)
    if learns and n_frames > shortest:
        n_frames = random.Random(step).randint(shortest, n_frames)
        n_frames -= n_frames % network.freq
    input_mel, embedding = batch.input_mel[part, :, :n_frames], batch.input_embedding[part]
    with torch.set_grad_enabled(learns):
        live = network.encode_live(input_mel, embedding).float()
    wanted = codes if aligns else codes[part, :, : live.shape[-1]].detach()
    valid = valid_elements(batch.lengths[part].clamp(max=n_frames), n_frames, network.freq)
    return masked_mean((live - wanted).abs(), valid.codes, valid.n_codes)


def refined_mel(network: AutoVC, batch: CropBatch, codes: Tensor, mel: Tensor) -> Tensor:
    """Refine mels by other frames of the target; the gradient does not reach the codes.

    Args:
        network: A network with `dim_reference`.
        batch: The batch.
        codes: (B, C, ⌈T/freq⌉), codes of the input.
        mel: (B, n_mels, T), the postnet's mels.

    Returns:
        (B, n_mels, T).
    """
    reference_mel = batch.reference_mel
    content = batch.reference_heard if network.listens else reference_mel
    with torch.no_grad():
        spoken = network.encode(content, batch.target_embedding)
        spoken = network.repeat_codes(spoken, reference_mel.shape[-1])
    reference = network.reference.remember(spoken, reference_mel)
    frames = torch.arange(reference_mel.shape[-1], device=mel.device)
    is_frame = frames < batch.reference_lengths[:, None]
    return network.refined(codes.detach(), mel, reference, is_frame).float()


@torch.no_grad()
def hear(critics: Critics, batch: CropBatch, valid: Valid, n_kinds: int) -> Heard:
    """Let the critics hear the recorded crops, once for all terms of the loss.

    Args:
        critics: The critics.
        batch: The batch.
        valid: Masks of the elements that count.
        n_kinds: Number of kinds of mels that are compared with the recordings.
    """
    recorded = batch.target_mel * valid.frames
    parts = heard_parts(n_kinds)
    return Heard(
        critics.speaker(recorded) if critics.speaker else None,
        critics.words(torch.cat([recorded[part] for part in parts])) if critics.words else None,
    )


def heard_parts(n_kinds: int) -> list[slice]:
    """Choose every second crop, of several kinds of mels in turns, to save time."""
    return [slice(first, None, HEARD_EVERY * n_kinds) for first in range(n_kinds)]


def reference_losses(
    refined: Tensor, batch: CropBatch, valid: Valid, critics: Critics, heard: Heard
) -> dict[str, Tensor]:
    """Compare mels that are refined by other frames of the target with the recordings.

    Args:
        refined: (B, n_mels, T), a result of `refined_mel`.
        batch: The batch.
        valid: Masks of the elements that count.
        critics: The critics.
        heard: What they hear in the recordings.

    Returns:
        `refined`, the mean absolute error, and with a speaker critic `critic_features` and
        `critic_distance`, see `critic_losses`.
    """
    difference = (refined - batch.target_mel).abs()
    losses = {"refined": masked_mean(difference, valid.frames, valid.n_frames)}
    if critics.speaker and heard.voices:
        losses["critic_features"], losses["critic_distance"] = critic_losses(
            critics.speaker(refined * valid.frames), heard.voices
        )
    return losses


def word_loss(critic: WordCritic, made: Sequence[Tensor], valid: Valid, wanted: Tensor) -> Tensor:
    """Compare what the recogniser hears in mels and in the recordings, see `feature_distance`.

    Args:
        critic: The critic.
        made: Kinds of mels, each (B, n_mels, T).
        valid: Masks of the elements that count.
        wanted: What the critic hears in the recordings, see `hear`.
    """
    parts = zip(made, heard_parts(len(made)), strict=True)
    heard = critic(torch.cat([mel[part] * valid.frames[part] for mel, part in parts]))
    return feature_distance(heard, wanted)


def conversion_losses(
    network: AutoVC,
    batch: CropBatch,
    codes: Tensor,
    mel: MelSpectrogram,
    valid: Valid,
    critics: Critics,
    heard: Heard,
    refines: bool,
    decoder_learns: bool,
) -> dict[str, Tensor]:
    """Convert every second crop into the voice of the crop before it, and judge what is heard.

    No recording says how that should sound, but its speaker is that of the other crop, and its
    words are those of its own.

    Args:
        network: The network, of which all is in eval mode but what trains.
        batch: The batch.
        codes: (B, C, ⌈T/freq⌉), codes of the input.
        mel: The mel-spectrogram.
        valid: Masks of the elements that count.
        critics: The critics.
        heard: What they hear in the recordings, for one kind of mels.
        refines: Whether frames of the voice refine the conversions.
        decoder_learns: Whether the gradient reaches decoder and postnet.

    Returns:
        With a speaker critic `converted_distance`, 1 − cosine of its embeddings of conversions and
        of recordings of the voice; with a voice critic `converted_voice`, the same by the speaker
        encoder; with a word critic `converted_words`, see `feature_distance`.
    """
    (part,) = heard_parts(1)
    voice = batch.apply(lambda x: x.roll(1, 0)[part])
    f0 = zip(batch.f0[part].cpu().numpy(), voice.f0.cpu().numpy(), strict=True)
    moved = torch.from_numpy(
        np.stack([pitch.moved(a, pitch.range_of([a]), pitch.range_of([b])) for a, b in f0])
    ).to(codes.device)
    with torch.set_grad_enabled(torch.is_grad_enabled() and decoder_learns):
        converted = network.decode(
            codes[part].detach(),
            batch.target_mel.shape[-1],
            voice.target_embedding,
            mel.harmonics(moved) if network.f0 else None,
            voice.acoustics if network.arguments["dim_acoustics"] else None,
        )[1]
    if refines:
        converted = refined_mel(network, voice, codes[part], converted)
    converted = converted.float() * valid.frames[part]
    losses = {}
    if critics.speaker and heard.voices:
        wanted = heard.voices[0].roll(1, 0)[part]
        cosines = F.cosine_similarity(critics.speaker(converted)[0], wanted)
        losses["converted_distance"] = 1 - cosines.mean()
    if critics.words and heard.words is not None:
        losses["converted_words"] = feature_distance(critics.words(converted), heard.words)
    if critics.voice:
        sound = critics.voice(network.sharpened(converted), moved)
        losses["converted_voice"] = 1 - F.cosine_similarity(sound, voice.target_embedding).mean()
    return losses


def average_counts(valid: Valid) -> Valid:
    """Average the counts of valid elements over all processes.

    Each process divides its sums by these averages, and DDP averages the gradients. The result is
    the gradient of the joint batch, even if the processes' parts have unequal sizes.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return valid
    counts = torch.stack([valid.n_frames, valid.n_codes])
    torch.distributed.all_reduce(counts)
    n_frames, n_codes = counts / torch.distributed.get_world_size()
    return replace(valid, n_frames=n_frames, n_codes=n_codes)
