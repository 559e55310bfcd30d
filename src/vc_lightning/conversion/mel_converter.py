"""Pitch → harmonics → network: the mel of a conversion, for files, live speech and samples."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vc_lightning.audio import pitch
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.recording import FADE_SECONDS, Recording, cross_fade, whole_codes
from vc_lightning.conversion.voices.voice import Speaker, Voice
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.running_decoder import RunningDecoder


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

    def convert_recording(self, recording: Recording, target: Voice) -> Iterator[Tensor]:
        """Convert the mel of a recording chunk by chunk; the chunks are cross-faded.

        Yields:
            Pieces (1, n_mels, T) of the converted mel, in order.
        """
        converted = (
            (chunk, self.convert(content.to(self._device), f0, recording, target))
            for chunk, content, f0 in recording.parts()
        )
        return cross_fade(converted, whole_codes(FADE_SECONDS, self.mel, self.autovc.freq))

    def convert(self, content: Tensor, f0: np.ndarray, source: Speaker, target: Voice) -> Tensor:
        """Convert the mel of a recording, or of a part of one.

        Args:
            content: (1, C, T), what the content encoder reads: the mel of the source, or, where the
                network listens, what the recogniser hears in it.
            f0: Pitch (T,) of the source in Hz, 0 in unvoiced frames; a network without F0 inputs
                ignores it.
            source: Who speaks it. A network that listens needs the embedding for guidance only.
            target: The target's voice. With an unknown pitch range the pitch is not moved.

        Returns:
            The converted mel (1, n_mels, T).

        Raises:
            InputError: An embedding has another shape, or is not finite.
        """
        return self._decoded(self.autovc, self.encode(content, source), f0, source, target)

    def encode_live(self, mel: Tensor, source: Speaker) -> Tensor:
        """Encode the mel (1, n_mels, T) of live speech, see `AutoVC.encode_live`."""
        return self.autovc.encode_live(mel, self._embedding(source))

    def encode(self, content: Tensor, source: Speaker) -> Tensor:
        """Encode what the content encoder reads (1, C, T), see `AutoVC.encode`."""
        listens = self.autovc.listens
        return self.autovc.encode(content, None if listens else self._embedding(source))

    def live_decoder(self, n_open: int) -> RunningDecoder:
        """Make what `decode_live` decodes with, see `RunningDecoder`."""
        return RunningDecoder(self.autovc, n_open + self._n_more)

    def decode_live(
        self,
        decoder: RunningDecoder,
        codes: Tensor,
        f0: np.ndarray,
        source: Speaker,
        target: Voice,
    ) -> Tensor:
        """Decode the next codes of live speech (1, 2·dim_neck, T/freq), see `convert`.

        The decoder also reads later frames, which are not spoken yet: it gets the last code and the
        last pitch over and over, which is much closer to them than the zeros that its convolutions
        are padded with.
        """
        codes = F.pad(codes, (0, self._n_more // self.autovc.freq), mode="replicate")
        f0_and_more = np.pad(f0, (0, self._n_more), mode="edge")
        return self._decoded(decoder, codes, f0_and_more, source, target)[..., : len(f0)]

    @property
    def _n_more(self) -> int:
        """Frames that the decoder gets after the newest one of live speech; whole codes."""
        return self.autovc.freq * math.ceil(self.autovc.lookahead / self.autovc.freq)

    def _decoded(
        self,
        network: AutoVC | RunningDecoder,
        codes: Tensor,
        f0: np.ndarray,
        source: Speaker,
        target: Voice,
    ) -> Tensor:
        """Decode codes (1, 2·dim_neck, ⌈T/freq⌉) -> the converted mel (1, n_mels, T).

        It is refined by the target's own frames, and sharpened.
        """
        target_embedding = self._embedding(target)
        harmonics = self._harmonics(f0, source, target)
        if self.guidance == 0:
            mel = network.decode(codes, len(f0), target_embedding, harmonics)[1]
        else:
            both = codes.expand(2, -1, -1)
            harmonics = None if harmonics is None else harmonics.expand(2, -1, -1)
            embeddings = torch.cat([target_embedding, self._embedding(source)])
            converted, unconverted = network.decode(both, len(f0), embeddings, harmonics)[1]
            mel = (converted + self.guidance * (converted - unconverted))[None]
        if self.autovc.has_reference and target.reference is not None:
            frames = require_reference(target.reference, self.autovc.reference.dim_remembered)
            reference = torch.from_numpy(frames.T)[None].to(self._device)
            mel = network.refined(codes, mel, reference)
        return self.autovc.sharpened(mel)

    def _harmonics(self, f0: np.ndarray, source: Speaker, target: Voice) -> Tensor | None:
        """Compute the harmonics (1, n_mels + 2, T) of the moved pitch; None if not needed."""
        if not self.autovc.f0:
            return None
        moved = torch.from_numpy(pitch.moved(f0, source.pitch, target.pitch))[None]
        return self.mel.harmonics(moved.to(self.mel.window.device)).to(self._device)

    def _embedding(self, voice: Speaker) -> Tensor:
        """Return a voice's embedding as (1, dim_emb)."""
        checked = require_embedding(voice.embedding, self.autovc.arguments["dim_emb"])
        return torch.from_numpy(checked)[None].to(self._device)

    @property
    def _device(self) -> torch.device:
        return next(self.autovc.parameters()).device


def require_embedding(embedding: np.ndarray, dim_emb: int) -> np.ndarray:
    """Return a target's embedding as float32.

    Raises:
        InputError: It does not have the shape (dim_emb,), or is not finite.
    """
    embedding = np.asarray(embedding, dtype=np.float32)
    if embedding.shape != (dim_emb,) or not np.isfinite(embedding).all():
        raise InputError(
            f"a voice's embedding has shape {embedding.shape}; give {dim_emb} finite numbers"
        )
    return embedding


def require_reference(reference: np.ndarray, dim: int) -> np.ndarray:
    """Return a target's reference as float32.

    Raises:
        InputError: It does not have the shape (R, dim), or is not finite.
    """
    reference = np.asarray(reference, dtype=np.float32)
    if reference.ndim != 2 or reference.shape[1] != dim or not np.isfinite(reference).all():
        raise InputError(
            f"a voice's reference has shape {reference.shape}; give finite frames of {dim} numbers"
        )
    return reference
