"""The network's mel in the target's voice, with guidance away from the source's voice."""

import torch
from torch import Tensor

from vc_lightning.models.autovc import AutoVC


def convert_mel(
    autovc: AutoVC,
    mel: Tensor,
    source_embedding: Tensor,
    target_embedding: Tensor,
    harmonics: Tensor | None,
    guidance: float,
) -> Tensor:
    """Convert a mel, extrapolating beyond the target's mel and away from the source's.

    converted + guidance · (converted − unconverted), where `unconverted` is the same codes in the
    source's voice (after classifier-free guidance, Ho & Salimans 2022, arXiv 2207.12598).

    Args:
        autovc: The network.
        mel: (1, n_mels, T) of the source.
        source_embedding: (1, dim_emb) of the source's speaker.
        target_embedding: (1, dim_emb) of the target's speaker.
        harmonics: (1, n_mels + 2, T) of the converted pitch, see `MelSpectrogram.harmonics`; None
            where the network has no F0 conditioning.
        guidance: 0 gives the network's own mel.

    Returns:
        The converted mel (1, n_mels, T).
    """
    n_frames = mel.shape[-1]
    codes = autovc.encode(mel, source_embedding)
    if guidance == 0:
        return autovc.decode(codes, n_frames, target_embedding, harmonics)[1]
    codes = codes.expand(2, -1, -1)
    harmonics = None if harmonics is None else harmonics.expand(2, -1, -1)
    embeddings = torch.cat([target_embedding, source_embedding])
    converted, unconverted = autovc.decode(codes, n_frames, embeddings, harmonics)[1]
    return (converted + guidance * (converted - unconverted))[None]
