"""Mels as a trained AutoVC gives them back, for a vocoder that shall know its blur."""

import copy
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from vc_lightning.audio import pitch
from vc_lightning.audio.mel import MelSpectrogram, require_same_settings
from vc_lightning.data.feature_store import FeatureFiles, Piece, is_whole, save
from vc_lightning.models.checkpoints import identity, read_autovc

log = logging.getLogger(__name__)


@torch.inference_mode()
def reconstruct(
    path: Path | str, pieces: Iterable[Piece], files: FeatureFiles, mel: MelSpectrogram
) -> FeatureFiles:
    """Sends the mels of recordings through an AutoVC file, every voice into itself.

    Returns: files that read the reconstructions in place of the mels; those that are missing are
        computed, and lie beside the mels under a name that changes with the weights.
    Raises: InputError when the AutoVC is for other mels.
    """
    network, card = read_autovc(path)
    require_same_settings(card.mel, mel.settings, f"data.mels_from={path}", "mel=")
    reconstructed = copy.copy(files)
    name = identity("autovc", network.state_dict())
    reconstructed.mels = files.mels.with_name(f"{files.mels.name}-{name}")
    by_content: dict[str, list[Piece]] = {}
    for piece in pieces:
        by_content.setdefault(piece.content, []).append(piece)
    missing = {
        content: of_content
        for content, of_content in by_content.items()
        if not is_whole(reconstructed.mel_file(content, 0))
    }
    if missing:
        log.info("reconstructing the mels of %d of %d recordings", len(missing), len(by_content))
    for content, of_content in tqdm(missing.items(), disable=not missing, desc="mels"):
        whole = files.read_all_mels(content)  # (T, n_mels); pieces without speech stay as they are
        for piece in of_content:
            voice = files.read_embedding(piece)[None]
            heard = files.read_mel(piece, 0, piece.n_frames)[None]
            span = slice(piece.start, piece.start + piece.n_frames)
            harmonics = None
            if network.f0:
                wav = files.read_wav(piece, 0, piece.n_frames).numpy()
                f0 = pitch.track(wav, mel.sample_rate, mel.hop_length)[: piece.n_frames]
                harmonics = mel.harmonics(torch.from_numpy(f0)[None])
            whole[span] = network(heard, voice, voice, harmonics)[1][0].T.clamp(0, 1)
        save(reconstructed.mel_file(content, 0), {"mel": whole.numpy().astype(np.float16)})
    return reconstructed
