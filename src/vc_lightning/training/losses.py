"""AutoVC's training loss, term by term."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

DISTANCES = {"l1": torch.abs, "l2": torch.square}


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
