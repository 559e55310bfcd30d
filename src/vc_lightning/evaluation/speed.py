"""Measure the steps of the analyses and conversions that are scored, while they are made."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar
from unittest import mock

import torch

from vc_lightning.common.progress import Progress
from vc_lightning.conversion.converter import NETWORK_SHARE, VoiceConverter
from vc_lightning.models import pitch_tracker

Result = TypeVar("Result")
TOLERANCE = 1e-6  # of a share


def of_analysis(
    converter: VoiceConverter, analyze: Callable[[], Result]
) -> tuple[Result, dict[str, float]]:
    """Measure an analysis, or a resynthesis.

    Args:
        converter: The converter that makes it.
        analyze: Makes it.

    Returns:
        Its result; and the seconds of the steps that it took, which may run side by side, and
        "whole".
    """
    steps: list[tuple[str, object, str]] = [
        ("speaker_encoder", converter.speaker_encoder, "embed_recording"),
        ("mel", converter.mel, "filtered"),
        ("mel", converter.mel, "forward"),
    ]
    if converter.autovc.f0:
        steps.append(("pitch", pitch_tracker, "track"))
    seconds: dict[str, float] = defaultdict(float)
    with contextlib.ExitStack() as stack:
        for name, owner, function in steps:
            measured = _adding(seconds, name, getattr(owner, function))
            stack.enter_context(mock.patch.object(owner, function, measured))
        started = now()
        result = analyze()
        seconds["whole"] = now() - started
    return result, dict(seconds)


def of_conversion(convert: Callable[[Progress], Result]) -> tuple[Result, dict[str, float]]:
    """Measure a conversion.

    Args:
        convert: `VoiceConverter.convert_analyzed` with all arguments but the progress.

    Returns:
        Its result, and the seconds of the steps.
    """
    started = network_ended = now()

    def note(share: float) -> None:
        nonlocal network_ended
        if share <= NETWORK_SHARE + TOLERANCE:
            network_ended = now()

    result = convert(note)
    return result, {"autovc": network_ended - started, "vocoder": now() - network_ended}


def now() -> float:
    """Return the time in seconds, at which a GPU has done its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _adding(seconds: dict[str, float], name: str, function: Callable) -> Callable:
    """Return a function that also adds the time of each call to `seconds`."""

    def measured(*arguments: object, **named: object) -> object:
        started = now()
        result = function(*arguments, **named)
        seconds[name] += now() - started
        return result

    return measured
