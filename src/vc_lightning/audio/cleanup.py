"""Clean recordings before a conversion and set the loudness after it (extra `cleanup`)."""

import importlib.util
import itertools
import logging
import math
from collections.abc import Iterator

import numpy as np

from vc_lightning.audio import voice_activity
from vc_lightning.audio.files import io
from vc_lightning.audio.resampling import resampled
from vc_lightning.audio.spill_buffer import blocks, collected
from vc_lightning.common.errors import InputError, require_flag, require_within

log = logging.getLogger(__name__)

RNNOISE_RATE = 48_000  # Hz, the only rate that RNNoise works at
RNNOISE_LAG = 960  # delay in samples
TRIM_MARGIN_MS = 90  # kept before and after the speech
PEAK_DBFS = -1.0  # highest peak after a change of loudness (EBU R 128: -1 dBTP)
METER_BLOCK_S = 0.4  # ITU-R BS.1770-4: blocks of 400 ms every 100 ms
METER_STEP_S = 0.1
METER_PIECE_S = 60  # measured at once
METER_WARM_UP_S = 1  # measured before a piece and dropped: the filters' transients
ABSOLUTE_GATE_LUFS = -70
RELATIVE_GATE_LU = -10.0
LUFS_OFFSET = -0.691


def require_settings(denoise: bool, trim: bool, loudness: float | None) -> None:
    """Check the settings `cleanup.*` before any work is done.

    Args:
        denoise: Whether noise is removed from recordings.
        trim: Whether silence is cut off at their ends.
        loudness: Loudness of conversions in LUFS; None leaves it unchanged.

    Raises:
        InputError: A value is wrong, or a package is missing.
    """
    require_flag("cleanup.denoise", denoise)
    require_flag("cleanup.trim", trim)
    if denoise:
        _require_package("pyrnnoise", "cleanup.denoise=true")
    if loudness is not None:
        require_within(ABSOLUTE_GATE_LUFS, 0, "cleanup", loudness=loudness)
        _require_package("pyloudnorm", f"cleanup.loudness={loudness}")


def _require_package(name: str, setting: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise InputError(f"{setting}: {name} is not installed; pip install 'vc-lightning[cleanup]'")


# Before ------------------------------------------------------------------------------------------


def clean(wav: np.ndarray, sample_rate: int, denoise: bool, trim: bool) -> np.ndarray:
    """Remove noise, silence at the ends, or both from a recording.

    Args:
        wav: Samples, float32 (n,), of any length.
        sample_rate: In Hz.
        denoise: Whether to remove noise.
        trim: Whether to cut off the silence at the ends.
    """
    if denoise:
        wav = denoised(wav, sample_rate)
    return trimmed(wav, sample_rate) if trim else wav


def denoised(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Remove noise with RNNoise (Valin 2018, arXiv 1709.08243), in constant memory.

    Args:
        wav: Samples, float32 (n,).
        sample_rate: In Hz.

    Returns:
        As many samples, without delay.
    """
    _require_package("pyrnnoise", "cleanup.denoise=true")
    peak = max(float(np.abs(block).max()) for block in blocks(wav))
    if peak == 0:
        return wav
    cleaned = resampled(_through_rnnoise(wav, sample_rate, 1 / peak), RNNOISE_RATE, sample_rate)
    return collected(piece * np.float32(peak) for piece in cleaned)[: len(wav)]


def _through_rnnoise(wav: np.ndarray, sample_rate: int, gain: float) -> Iterator[np.ndarray]:
    """Yield the output of RNNoise at 48 kHz for wav · gain, which lies in −1…1."""
    from pyrnnoise import rnnoise

    frame_size = rnnoise.FRAME_SIZE
    loud = resampled((one * np.float32(gain) for one in blocks(wav)), sample_rate, RNNOISE_RATE)
    late = np.zeros(RNNOISE_LAG + frame_size, np.float32)  # flushes the last samples
    state = rnnoise.create()
    try:
        rest = np.zeros(0, np.float32)
        surplus = RNNOISE_LAG
        for block in itertools.chain(loud, [late]):
            rest = np.concatenate([rest, block.clip(-1, 1)])
            frames = rest[: len(rest) // frame_size * frame_size].reshape(-1, frame_size)
            rest = rest[frames.size :]
            denoised = [rnnoise.process_mono_frame(state, frame)[0] for frame in frames]
            piece = np.concatenate([np.zeros(0, np.int16), *denoised])
            yield piece[surplus:].astype(np.float32) / voice_activity.INT16_MAX
            surplus = max(0, surplus - len(piece))
    finally:
        rnnoise.destroy(state)


def trimmed(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Cut off the silence before the first and after the last speech (WebRTC's detector).

    If the detector finds no speech, nothing is cut.

    Args:
        wav: Samples (n,).
        sample_rate: In Hz.
    """
    speech = voice_activity.speech_windows(
        io.resample(wav, sample_rate, voice_activity.VAD_SAMPLE_RATE)
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
    """Set the integrated loudness of a recording (ITU-R BS.1770-4), without clipping.

    If a peak would exceed −1 dBFS, the gain is lowered to what the peak allows, and a warning
    states the loudness reached. There is no limiter, because it would change the sound.

    Args:
        wav: Samples (n,).
        sample_rate: In Hz.
        lufs: The loudness in LUFS.

    Raises:
        InputError: The recording is shorter than 0.4 s.
    """
    measured = loudness(wav, sample_rate)
    if not math.isfinite(measured):
        log.warning("the loudness stays unchanged: nothing in the conversion is above -70 LUFS")
        return wav
    peak = max(float(np.abs(block).max()) for block in blocks(wav))
    gain = min(lufs - measured, PEAK_DBFS - 20 * math.log10(peak))
    if gain < lufs - measured:
        log.warning(
            "cleanup.loudness=%g: set to %.1f LUFS, the most that the peaks allow",
            lufs,
            measured + gain,
        )
    return collected(voice_activity.amplify(block, gain) for block in blocks(wav))


def loudness(wav: np.ndarray, sample_rate: int) -> float:
    """Measure the integrated loudness of a recording.

    pyloudnorm weights and measures one minute at a time; the two gates of ITU-R BS.1770-4 are then
    applied to all blocks together.

    Args:
        wav: Samples (n,).
        sample_rate: In Hz.

    Returns:
        The loudness in LUFS; minus infinity if everything is below −70 LUFS.

    Raises:
        InputError: The recording is shorter than 0.4 s.
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
    """Yield the loudness of the meter's blocks in LUFS, in order."""
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
        n_warm_up = round((start - first) / sample_rate / METER_STEP_S)
        yield np.asarray(meter.blockwise_loudness)[n_warm_up:]


def _mean_level(levels: np.ndarray) -> float:
    """Return the level in LUFS of the mean power of blocks, given their levels."""
    power = np.mean(10 ** ((levels - LUFS_OFFSET) / 10))
    return float(LUFS_OFFSET + 10 * np.log10(power))
