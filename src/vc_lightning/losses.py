"""AutoVC's training loss, term by term."""

import torch
from torch import Tensor


def valid_mask(lengths: Tensor, size: int) -> Tensor:
    """lengths (B,) -> float mask (B, 1, size), 1 where an element is not padding."""
    positions = torch.arange(size, device=lengths.device)
    return (positions < lengths[:, None]).float()[:, None]


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (B, C, T) over the elements that mask (B, 1, T) keeps."""
    return (values * mask).sum() / (mask.sum() * values.shape[1]).clamp(min=1)


def autovc_losses(
    mel: Tensor,
    decoder_mel: Tensor,
    postnet_mel: Tensor,
    codes: Tensor,
    postnet_codes: Tensor,
    lengths: Tensor,
    freq: int,
) -> dict[str, Tensor]:
    """AutoVC's three terms (Qian et al. 2019, equations 6 and 7), means over valid elements only.

    Args:
        mel, decoder_mel, postnet_mel: (B, n_mels, T), the target and the two reconstructions.
        codes, postnet_codes: (B, C, ⌈T/freq⌉), of the target and of `postnet_mel`.
        lengths: (B,), valid frames of each utterance.
        freq: frames that one code stands for.
    Returns: `postnet` and `decoder`, mean squared errors, and `content`, mean absolute error.
    Raises: ValueError when shapes differ: broadcasting would average over the wrong pairs.
    """
    if not mel.shape == decoder_mel.shape == postnet_mel.shape:
        raise ValueError(f"mels: {mel.shape}, {decoder_mel.shape}, {postnet_mel.shape}")
    if codes.shape != postnet_codes.shape:
        raise ValueError(f"codes: {codes.shape} != {postnet_codes.shape}")
    frames = valid_mask(lengths, mel.shape[-1])
    return {
        "postnet": masked_mean((postnet_mel - mel).square(), frames),
        "decoder": masked_mean((decoder_mel - mel).square(), frames),
        "content": masked_mean((postnet_codes - codes).abs(), code_mask(lengths, freq, codes)),
    }


def code_mask(lengths: Tensor, freq: int, codes: Tensor) -> Tensor:
    """Mask (B, 1, ⌈T/freq⌉) of the codes that hold at least one valid frame."""
    return valid_mask(torch.ceil(lengths / freq), codes.shape[-1])
