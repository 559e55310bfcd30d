"""AutoVC's training loss, term by term."""

from dataclasses import dataclass

import torch
from torch import Tensor

DISTANCES = {"l1": torch.abs, "l2": torch.square}


@dataclass(frozen=True)
class Valid:
    """Masks of the elements of a batch that are not padding.

    Attributes:
        frames: (B, 1, T), 1 for frames and 0 for padding.
        codes: (B, 1, ⌈T/freq⌉), 1 for codes that cover at least one frame.
        n_frames: Number of valid frames.
        n_codes: Number of valid codes.
    """

    frames: Tensor
    codes: Tensor
    n_frames: Tensor
    n_codes: Tensor


def valid_elements(lengths: Tensor, size: int, freq: int) -> Valid:
    """Mask a batch of `size` frames in which the utterances have lengths (B,)."""
    frames = valid_mask(lengths, size)
    codes = valid_mask(torch.ceil(lengths / freq), -(-size // freq))
    return Valid(frames, codes, frames.sum(), codes.sum())


def valid_mask(lengths: Tensor, size: int) -> Tensor:
    """Turn lengths (B,) into a float mask (B, 1, size), 1 where an element is not padding."""
    positions = torch.arange(size, device=lengths.device)
    return (positions < lengths[:, None]).float()[:, None]


def masked_mean(values: Tensor, mask: Tensor, count: Tensor) -> Tensor:
    """Average values (B, C, T) over the `count` elements per channel that mask (B, 1, T) keeps."""
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
    """Compute AutoVC's terms (Qian et al. 2019, equations 6 and 7), means over valid elements.

    Args:
        mel: (B, n_mels, T), the target.
        decoder_mel: (B, n_mels, T), the decoder's reconstruction.
        postnet_mel: (B, n_mels, T), the postnet's reconstruction.
        codes: (B, C, ⌈T/freq⌉), codes of the input.
        postnet_codes: Codes of `postnet_mel`; None leaves out the content term.
        valid: Masks of the elements that count.
        distance: Between mels, one of `DISTANCES`.

    Returns:
        `postnet` and `decoder`, mean squared errors (l2, the paper's) or mean absolute ones (l1),
        and `content`, a mean absolute error.

    Raises:
        ValueError: Shapes differ; broadcasting would average over the wrong pairs.
    """
    if not mel.shape == decoder_mel.shape == postnet_mel.shape:
        raise ValueError(f"mels: {mel.shape}, {decoder_mel.shape}, {postnet_mel.shape}")
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
