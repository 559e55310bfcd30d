"""The random choice of a crop: its frames, and the VTLP copies that are its input and target."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class VtlpCopies:
    """VTLP copies allowed as encoder input and as target; copy 0 is the recording itself.

    VTLP is vocal tract length perturbation: the same words with a stretched frequency axis sound
    like another speaker.

    Attributes:
        input: Numbers of the copies that may be the encoder's input.
        input_probability: Share of the crops whose input is one of them.
        target: Numbers of the copies that may be the target, as if recorded by further speakers.
        target_probability: Share of the crops whose target is one of them.
    """

    input: Sequence[int] = ()
    input_probability: float = 0.0
    target: Sequence[int] = ()
    target_probability: float = 0.0


NO_COPIES = VtlpCopies()
MIN_REFERENCE = 32  # frames


@dataclass(frozen=True)
class CropChoice:
    """A random crop: frames start…stop, and the numbers of its input and target copies."""

    start: int
    stop: int
    input_copy: int
    target_copy: int


def choose_crop(
    rng: np.random.Generator, n_frames: int, crop_frames: int | None, copies: VtlpCopies
) -> CropChoice:
    """Choose a random crop of an utterance.

    Args:
        rng: Source of all randomness.
        n_frames: Length of the utterance.
        crop_frames: Length of the crop; None, or more than `n_frames`, gives the whole utterance.
        copies: Copies to choose from.

    Returns:
        The crop; input and target are the same copy only if both are copy 0, the recording.
    """
    length = min(crop_frames or n_frames, n_frames)
    start = int(rng.integers(n_frames - length + 1))
    input_copy = _choose_copy(rng, copies.input, copies.input_probability)
    target_copy = _choose_copy(rng, copies.target, copies.target_probability)
    if input_copy == target_copy:
        input_copy = 0  # the recording, so that the input's voice differs from the target's
    return CropChoice(start, start + length, input_copy, target_copy)


def reference_spans(crop: CropChoice, n_frames: int, longest: int) -> list[tuple[int, int]]:
    """Choose the frames next to a crop that show its voice, as evenly on both sides as possible.

    Args:
        crop: The crop.
        n_frames: Length of the utterance.
        longest: Most frames to choose, at least 1.

    Returns:
        First frame and end of the spans before and after the crop; of the crop itself where the
        utterance has fewer than `MIN_REFERENCE` other frames.
    """
    n_before, n_after = crop.start, n_frames - crop.stop
    if n_before + n_after < MIN_REFERENCE:
        return [(crop.start, min(crop.stop, crop.start + longest))]
    before = min(n_before, max(longest // 2, longest - n_after))
    after = min(n_after, longest - before)
    return [(crop.start - before, crop.start), (crop.stop, crop.stop + after)]


def _choose_copy(rng: np.random.Generator, copies: Sequence[int], probability: float) -> int:
    """Choose one of the copies with the given probability, else copy 0."""
    if not copies or rng.random() >= probability:
        return 0
    return copies[int(rng.integers(len(copies)))]
