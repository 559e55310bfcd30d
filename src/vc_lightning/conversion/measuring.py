"""Convert analyzed recordings, time the conversions and measure voice similarity."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vc_lightning.common.errors import InputError
from vc_lightning.common.progress import Progress, no_progress
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.recording import Recording
from vc_lightning.conversion.voices.voice import Voice
from vc_lightning.models.speaker_encoder import similarity


@dataclass(frozen=True)
class ConversionRequest:
    """A source, a target voice and the embedding of the target that the result is compared with.

    Attributes:
        source: The analyzed source recording.
        target: The voice to convert to.
        target_reference: Embedding (dim_emb,) of the target speaker; None for that of `target`.
    """

    source: Recording
    target: Voice
    target_reference: np.ndarray | None = None


@dataclass(frozen=True)
class MeasuredConversion:
    """A conversion, its computing time and its voice similarities (cosines, −1 to 1).

    Attributes:
        wav: The conversion, float32 (n,), as long as the source.
        seconds: Computing time of the conversion; analysis and measurement do not count.
        before: Similarity of the source to the target speaker.
        to_target: Similarity of the conversion to the target speaker; None if `unmeasured`.
        to_source: Similarity of the conversion to the source speaker; None if `unmeasured`.
        unmeasured: Why the conversion has no embedding (too little speech), or "".
    """

    wav: np.ndarray
    seconds: float
    before: float
    to_target: float | None
    to_source: float | None
    unmeasured: str = ""


def convert_and_measure(
    converter: VoiceConverter,
    requests: Sequence[ConversionRequest],
    seed: int,
    progress: Progress = no_progress,
) -> list[MeasuredConversion]:
    """Convert recordings side by side, time them and measure their voice similarity.

    The time of a batch is shared among its conversions in proportion to their length.

    Args:
        converter: Makes the conversions and their embeddings.
        requests: The conversions to make; at least one.
        seed: Seed of the vocoder.
        progress: Called with the share of the conversion that is done, 0 to 1.

    Returns:
        One result per request, in the same order.
    """
    started = time.perf_counter()
    wavs = converter.convert_analyzed(
        [request.source for request in requests],
        [request.target for request in requests],
        seed,
        progress,
    )
    seconds_per_sample = (time.perf_counter() - started) / sum(len(wav) for wav in wavs)
    return [
        _measure(converter, request, wav, seconds_per_sample * len(wav))
        for request, wav in zip(requests, wavs, strict=True)
    ]


def _measure(
    converter: VoiceConverter, request: ConversionRequest, wav: np.ndarray, seconds: float
) -> MeasuredConversion:
    """Compare a conversion with both speakers."""
    source, target = request.source.embedding, request.target_reference
    target = request.target.embedding if target is None else target
    before = similarity(source, target)
    try:
        result = converter.embed(wav)
    except InputError as error:
        return MeasuredConversion(wav, seconds, before, None, None, str(error))
    to_target, to_source = similarity(result, target), similarity(result, source)
    return MeasuredConversion(wav, seconds, before, to_target, to_source)
