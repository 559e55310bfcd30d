"""Convert mels to the target's voice, with guidance away from the source's voice."""

from collections.abc import Iterator

import torch
from torch import Tensor

from vc_lightning.audio import pitch
from vc_lightning.conversion.analysis import RecordingAnalyzer
from vc_lightning.conversion.chunking import Chunk
from vc_lightning.conversion.recordings import AnalyzedRecording, Voice, require_embedding
from vc_lightning.models.autovc import AutoVC


def convert_chunks(
    autovc: AutoVC,
    analyzer: RecordingAnalyzer,
    source: AnalyzedRecording,
    target: Voice,
    guidance: float,
) -> Iterator[Tensor]:
    """Convert the mel of a recording chunk by chunk, with its pitch in the target's range.

    Args:
        autovc: The network.
        analyzer: Computes the mels of the chunks.
        source: The recording.
        target: The target voice.
        guidance: See `convert_mel`.

    Yields:
        Pieces (1, n_mels, T) of the converted mel, in order.
    """
    embedding = require_embedding(target.embedding, autovc.arguments["dim_emb"])
    device = next(autovc.parameters()).device
    source_embedding = torch.from_numpy(source.embedding)[None].to(device)
    target_embedding = torch.from_numpy(embedding)[None].to(device)
    f0 = None
    if autovc.f0 and source.f0 is not None:
        moved = pitch.moved(source.f0, pitch.range_of([source.f0]), target.pitch)
        f0 = torch.from_numpy(moved)[None].to(device)

    def convert(chunk: Chunk) -> Tensor:
        mel = analyzer.chunk_mel(source.wav, source.gain_db, chunk)
        harmonics = None
        if f0 is not None:
            harmonics = analyzer.mel.harmonics(f0[:, chunk.first : chunk.last])
        return convert_mel(autovc, mel, source_embedding, target_embedding, harmonics, guidance)

    return analyzer.joined((chunk, convert(chunk)) for chunk in analyzer.chunks(source.wav))


def convert_mel(
    autovc: AutoVC,
    mel: Tensor,
    source_embedding: Tensor,
    target_embedding: Tensor,
    harmonics: Tensor | None,
    guidance: float,
) -> Tensor:
    """Convert a mel, extrapolating beyond the target's mel and away from the source's.

    The result is converted + guidance · (converted − unconverted), where `unconverted` decodes the
    same codes in the source's voice (after classifier-free guidance, Ho & Salimans 2022, arXiv
    2207.12598).

    Args:
        autovc: The network.
        mel: (1, n_mels, T) of the source.
        source_embedding: (1, dim_emb) of the source's speaker.
        target_embedding: (1, dim_emb) of the target's speaker.
        harmonics: (1, n_mels + 2, T) of the converted pitch, see `MelSpectrogram.harmonics`; None
            where the network has no F0 conditioning.
        guidance: Factor of the extrapolation; 0 gives the network's own mel.

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
