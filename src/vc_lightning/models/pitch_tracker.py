"""The pitch tracker: F0 of recordings, at the frames of a mel."""

import functools

import numpy as np
import torch

from vc_lightning.audio.files import io
from vc_lightning.audio.pitch import FMAX_HZ, FMIN_HZ, resample_contour
from vc_lightning.common import resources
from vc_lightning.common.precision import has_bfloat16_products
from vc_lightning.models import checkpoints
from vc_lightning.models.swift_f0 import (
    AHEAD_FRAMES,
    HOP_LENGTH,
    PAST_FRAMES,
    SAMPLE_RATE,
    SwiftF0,
)

# Cached features carry the name, so that contours of two trackers are never mixed.
NAME = "swift-f0 0.3.0"
VOICED = 0.5  # the probability for which the tracker is calibrated
SILENCE_PEAK = 1e-3  # −60 dBFS: the tracker has never heard softer frames, and guesses
FRAMES_AT_ONCE = 1875  # 30 s


def track(wav: np.ndarray, sample_rate: int, hop_length: int) -> np.ndarray:
    """Track F0, in constant memory.

    Args:
        wav: Samples, float32 (n,), of any length.
        sample_rate: In Hz.
        hop_length: Samples between two frames of the result.

    Returns:
        F0 in Hz, float32 (n // hop_length + 1,), 0 in unvoiced frames. Frame t is centred on sample
        t · hop_length, as in a mel.
    """
    f0 = _tracked(io.resample(np.asarray(wav, np.float32), sample_rate, SAMPLE_RATE))
    n_frames = len(wav) // hop_length + 1
    if (sample_rate, hop_length) == (SAMPLE_RATE, HOP_LENGTH):
        return np.pad(f0, (0, n_frames - len(f0)), mode="edge")
    seconds = np.arange(n_frames) * hop_length / sample_rate
    return resample_contour(f0, seconds * SAMPLE_RATE / HOP_LENGTH)


@torch.inference_mode()
def _tracked(wav: np.ndarray) -> np.ndarray:
    """Track F0 of samples (n,) at 16 kHz -> (max(1, n // 256),) in Hz."""
    tracker = load()
    n_frames = max(1, len(wav) // HOP_LENGTH)
    pieces = []
    for first in range(0, n_frames, FRAMES_AT_ONCE):
        last = min(first + FRAMES_AT_ONCE, n_frames)
        n_before = min(first, PAST_FRAMES)
        stop = None if last == n_frames else (last + AHEAD_FRAMES) * HOP_LENGTH
        samples = torch.from_numpy(wav[(first - n_before) * HOP_LENGTH : stop])
        pitch, is_voiced = tracker(samples, FMIN_HZ, FMAX_HZ)
        f0 = pitch.where(is_voiced >= VOICED, 0.0)
        pieces.append(f0[n_before : n_before + last - first].numpy())
    whole = np.pad(wav, (0, max(0, HOP_LENGTH - len(wav))))[: n_frames * HOP_LENGTH]
    peaks = np.abs(whole).reshape(n_frames, HOP_LENGTH).max(axis=1)
    return np.where(peaks < SILENCE_PEAK, 0, np.concatenate(pieces))


@functools.cache
def load() -> SwiftF0:
    """Load the tracker, once per process."""
    tracker = checkpoints.read_network(resources.PITCH_TRACKER, SwiftF0.kind)[0]
    tracker.requires_grad_(False).to(memory_format=torch.channels_last)
    return tracker.use_bfloat16() if has_bfloat16_products() else tracker
