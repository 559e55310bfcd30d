"""Pitch → harmonics → network: the mel of a conversion, for files, live speech and samples."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vc_lightning.audio import pitch
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.conversion.recordings import Voice, require_embedding
from vc_lightning.models.autovc import AutoVC


@dataclass(frozen=True)
class MelConverter:
    """Converts mels from one voice to another, with the pitch in the target's range.

    With guidance the result is converted + guidance · (converted − unconverted), where the mel
    `unconverted` is decoded from the same codes in the source's voice (after classifier-free
    guidance, Ho & Salimans 2022, arXiv 2207.12598).

    Args:
        autovc: The network, in eval mode.
        mel: Mel-spectrogram with its settings.
        guidance: Strength of the extrapolation; 0 gives the network's own mel.
    """

    autovc: AutoVC
    mel: MelSpectrogram
    guidance: float = 0.0

    def convert(
        self,
        mel: Tensor,
        f0: np.ndarray | None,
        source: Voice,
        target: Voice,
        heard: Tensor | None = None,
    ) -> Tensor:
        """Convert a mel.

        Args:
            mel: (1, n_mels, T) of the source.
            f0: Pitch (T,) of the source in Hz, 0 in unvoiced frames; only networks with F0 inputs
                need it.
            source: The source's voice.
            target: The target's voice. With an unknown pitch range the pitch is not moved.
            heard: What the recogniser hears in the source (1, D, T), for a network that listens.
                Without it, such a network encodes the mel by its live encoder.

        Returns:
            The converted mel (1, n_mels, T).

        Raises:
            InputError: An embedding has another shape, or is not finite.
        """
        source_embedding, target_embedding = self._embedding(source), self._embedding(target)
        if heard is not None and self.autovc.listens:
            codes = self.autovc.encode(heard.to(self._device), source_embedding)
        else:
            codes = self.autovc.encode_live(mel, source_embedding)
        harmonics = self._harmonics(f0, source, target)
        n_frames = mel.shape[-1]
        if self.guidance == 0:
            return self.autovc.decode(codes, n_frames, target_embedding, harmonics)[1]
        codes = codes.expand(2, -1, -1)
        harmonics = None if harmonics is None else harmonics.expand(2, -1, -1)
        embeddings = torch.cat([target_embedding, source_embedding])
        converted, unconverted = self.autovc.decode(codes, n_frames, embeddings, harmonics)[1]
        return (converted + self.guidance * (converted - unconverted))[None]

    def _harmonics(self, f0: np.ndarray | None, source: Voice, target: Voice) -> Tensor | None:
        """Compute the harmonics (1, n_mels + 2, T) of the moved pitch; None if not needed."""
        if not self.autovc.f0 or f0 is None:
            return None
        moved = torch.from_numpy(pitch.moved(f0, source.pitch, target.pitch))[None]
        return self.mel.harmonics(moved.to(self.mel.window.device)).to(self._device)

    def _embedding(self, voice: Voice) -> Tensor:
        """Return a voice's embedding as (1, dim_emb)."""
        checked = require_embedding(voice.embedding, self.autovc.arguments["dim_emb"])
        return torch.from_numpy(checked)[None].to(self._device)

    @property
    def _device(self) -> torch.device:
        return next(self.autovc.parameters()).device
