"""Cleaning recordings before a conversion and setting its loudness after (extra `cleanup`)."""

import importlib.util
import itertools
import logging
import math
from collections.abc import Iterator

import numpy as np
import soxr

from vc_lightning.audio import io as audio
from vc_lightning.audio import voice_activity
from vc_lightning.audio.spill_buffer import SpillBuffer, blocks
from vc_lightning.common.errors import InputError, require_flag, require_within

log = logging.getLogger(__name__)

RNNOISE_RATE = 48_000  # Hz, the only one that it knows
RNNOISE_LAG = 960  # samples by which what comes out is late
TRIM_MARGIN_MS = 90  # that stay before and after the speech
PEAK_DBFS = -1.0  # what loudness may raise a peak to (EBU R 128: -1 dBTP)
METER_BLOCK_S = 0.4  # ITU-R BS.1770-4: blocks of 400 ms every 100 ms
METER_STEP_S = 0.1
METER_PIECE_S = 60  # measured in one go
METER_WARM_UP_S = 1  # until the meter's filters have settled
ABSOLUTE_GATE_LUFS = -70
RELATIVE_GATE_LU = -10.0
LUFS_OFFSET = -0.691


def require_settings(denoise: bool, trim: bool, loudness: float | None) -> None:
    """Raises InputError for values of `cleanup` that can not be, before any work is done."""
    require_flag("cleanup.denoise", denoise)
    require_flag("cleanup.trim", trim)
    if denoise:
        _require_package("pyrnnoise", "cleanup.denoise=true")
    if loudness is not None:
        require_within(ABSOLUTE_GATE_LUFS, 0, "cleanup", loudness=loudness)
        _require_package("pyloudnorm", f"cleanup.loudness={loudness}")


def _require_package(name: str, setting: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise InputError(f'{setting}: {name} is not installed; pip install -e ".[cleanup]"')


# Before ------------------------------------------------------------------------------------------


def clean(wav: np.ndarray, sample_rate: int, denoise: bool, trim: bool) -> np.ndarray:
    """A recording, float32 (n,) of any length, without its noise and the silence at its ends."""
    if denoise:
        wav = denoised(wav, sample_rate)
    return trimmed(wav, sample_rate) if trim else wav


def denoised(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """What RNNoise (Valin 2018, arXiv 1709.08243) leaves of wav (n,), as long and in step.

    It goes through wav once and needs the same memory for any length.
    """
    _require_package("pyrnnoise", "cleanup.denoise=true")
    peak = max(float(np.abs(block).max()) for block in blocks(wav))
    if peak == 0:
        return wav
    down = soxr.ResampleStream(RNNOISE_RATE, sample_rate, 1, dtype="float32", quality="HQ")
    buffer = SpillBuffer()
    for piece in _through_rnnoise(wav, sample_rate, 1 / peak):
        buffer.append(down.resample_chunk(piece) * np.float32(peak))
    buffer.append(down.resample_chunk(np.zeros(0, np.float32), last=True) * np.float32(peak))
    return buffer.array()[: len(wav)]


def _through_rnnoise(wav: np.ndarray, sample_rate: int, gain: float) -> Iterator[np.ndarray]:
    """Pieces at 48 kHz of wav times gain, which fills −1…1, as RNNoise hands them back."""
    from pyrnnoise import rnnoise

    frame_size = rnnoise.FRAME_SIZE
    up = soxr.ResampleStream(sample_rate, RNNOISE_RATE, 1, dtype="float32", quality="HQ")
    late = np.zeros(RNNOISE_LAG + frame_size, np.float32)  # what pushes the last samples out
    state = rnnoise.create()
    try:
        rest = np.zeros(0, np.float32)
        surplus = RNNOISE_LAG
        for block in itertools.chain(_resampled(up, wav, gain), [late]):
            rest = np.concatenate([rest, block.clip(-1, 1)])
            frames = rest[: len(rest) // frame_size * frame_size].reshape(-1, frame_size)
            rest = rest[frames.size :]
            heard = [rnnoise.process_mono_frame(state, frame)[0] for frame in frames]
            piece = np.concatenate([np.zeros(0, np.int16), *heard])
            yield piece[surplus:].astype(np.float32) / voice_activity.INT16_MAX
            surplus = max(0, surplus - len(piece))
    finally:
        rnnoise.destroy(state)


def _resampled(stream: soxr.ResampleStream, wav: np.ndarray, gain: float) -> Iterator[np.ndarray]:
    for block in blocks(wav):
        yield stream.resample_chunk(block * np.float32(gain))
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def trimmed(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """wav (n,) from shortly before its first speech to shortly after its last (WebRTC's detector).

    Where the detector finds no speech nothing is cut.
    """
    speech = voice_activity.speech_windows(
        audio.resample(wav, sample_rate, voice_activity.VAD_SAMPLE_RATE)
    )
    voiced = np.flatnonzero(speech)
    if len(voiced) == 0:
        return wav
    window = voice_activity.VAD_WINDOW_MS * sample_rate / 1000
    margin = TRIM_MARGIN_MS * sample_rate / 1000
    start = max(0, round(voiced[0] * window - margin))
    return wav[start : round((voiced[-1] + 1) * window + margin)]


# After -------------------------------------------------------------------------------------------


def normalize_loudness(wav: np.ndarray, sample_rate: int, lufs: float) -> np.ndarray:
    """Brings wav (n,) to an integrated loudness in LUFS (ITU-R BS.1770-4), without clipping.

    Where a peak would pass -1 dBFS, wav is made only as loud as its peak allows, and a warning
    says how loud that is; there is no limiter, which would change the sound.

    Raises: InputError when it is shorter than 0.4 s.
    """
    measured = loudness(wav, sample_rate)
    if not math.isfinite(measured):
        log.warning("the loudness is left as it is: nothing in it is above -70 LUFS")
        return wav
    peak = max(float(np.abs(block).max()) for block in blocks(wav))
    gain = min(lufs - measured, PEAK_DBFS - 20 * math.log10(peak))
    if gain < lufs - measured:
        log.warning(
            "cleanup.loudness=%g: its peaks allow %.1f LUFS, which it gets", lufs, measured + gain
        )
    buffer = SpillBuffer()
    for block in blocks(wav):
        buffer.append(voice_activity.amplify(block, gain))
    return buffer.array()


def loudness(wav: np.ndarray, sample_rate: int) -> float:
    """Integrated loudness of wav (n,) in LUFS; minus infinity for what is below -70 LUFS.

    pyloudnorm weights and measures it in pieces of a minute; the two gates of ITU-R BS.1770-4
    then look at all blocks.

    Raises: InputError when it is shorter than 0.4 s.
    """
    if len(wav) < METER_BLOCK_S * sample_rate:
        raise InputError(
            f"cleanup.loudness: {len(wav) / sample_rate:.2f} s are too short to measure; "
            f"give at least {METER_BLOCK_S} s"
        )
    levels = np.concatenate(list(_block_levels(wav, sample_rate)))
    levels = levels[levels >= ABSOLUTE_GATE_LUFS]
    if len(levels) == 0:
        return -math.inf
    return _mean_level(levels[levels > _mean_level(levels) + RELATIVE_GATE_LU])


def _block_levels(wav: np.ndarray, sample_rate: int) -> Iterator[np.ndarray]:
    """Loudness of the meter's blocks, in the order of time."""
    _require_package("pyloudnorm", "cleanup.loudness")
    import pyloudnorm

    meter = pyloudnorm.Meter(sample_rate, block_size=METER_BLOCK_S)
    overlap = round((METER_BLOCK_S - METER_STEP_S) * sample_rate)
    length = METER_PIECE_S * sample_rate
    starts = list(range(0, max(1, len(wav) - overlap - sample_rate), length))
    for start, stop in zip(starts, [*starts[1:], len(wav)], strict=True):
        first = max(0, start - METER_WARM_UP_S * sample_rate)
        last = min(len(wav), stop + overlap)
        meter.integrated_loudness(wav[first:last].astype(np.float64))
        settled = round((start - first) / sample_rate / METER_STEP_S)
        yield np.asarray(meter.blockwise_loudness)[settled:]


def _mean_level(levels: np.ndarray) -> float:
    """Level of the mean power of blocks of some levels in LUFS."""
    power = np.mean(10 ** ((levels - LUFS_OFFSET) / 10))
    return float(LUFS_OFFSET + 10 * np.log10(power))
