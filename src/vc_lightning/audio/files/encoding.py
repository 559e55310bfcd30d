"""Write sound as wav, flac, mp3, ogg, opus or m4a, chosen by the file's suffix."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from vc_lightning.audio.files import ffmpeg
from vc_lightning.audio.resampling import resampled
from vc_lightning.audio.spill_buffer import blocks
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import atomic_path

MAX_WAV_BYTES = 2**32 - 2**16  # RIFF counts bytes in 32 bits
PCM_BYTES = 2
WRITE_SAMPLES = 2**16  # handed to an encoder at once; Vorbis overflows the stack at a million
MPEG_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)


@dataclass(frozen=True)
class OutputFormat:
    """How files of one suffix are written.

    Attributes:
        container: libsndfile's name of the container; "" for FFmpeg.
        subtype: libsndfile's name of the coding.
        rates: Supported sample rates in Hz, rising; () for all.
        compression: libsndfile's level from 0, the best quality, to 1; None for its own choice.
    """

    container: str
    subtype: str
    rates: tuple[int, ...] = ()
    compression: float | None = None


# Six seconds of speech at 16 kHz, in kbit/s: wav 256, flac 139, opus 84, m4a 74, mp3 70, ogg 64.
OUTPUT_FORMATS = {
    ".wav": OutputFormat("WAV", "PCM_16"),
    ".flac": OutputFormat("FLAC", "PCM_16"),
    ".mp3": OutputFormat("MP3", "MPEG_LAYER_III", MPEG_RATES, 0.0),
    ".ogg": OutputFormat("OGG", "VORBIS", (), 0.2),
    ".opus": OutputFormat("OGG", "OPUS", OPUS_RATES, 0.7),
    ".m4a": OutputFormat("", "AAC", MPEG_RATES),
}
OUTPUT_SUFFIXES = tuple(OUTPUT_FORMATS)


def save(
    path: Path | str, wav: np.ndarray, sample_rate: int, tags: Mapping[str, str] | None = None
) -> Path:
    """Write a recording, whole or not at all, in the format that the path's suffix names.

    A recording with peaks above full scale is scaled down as a whole, never clipped. Wav and flac
    have 16 bits; a wav above 4 GiB becomes RF64. If a format does not support the sample rate, the
    recording is resampled to the next higher rate.

    Args:
        path: The file; see `OUTPUT_SUFFIXES`.
        wav: Samples (n,).
        sample_rate: In Hz.
        tags: Text that the file keeps: any of "title", "software", "date" and "comment".

    Returns:
        The path.

    Raises:
        InputError: The suffix is not one of `OUTPUT_SUFFIXES`.
        OSError: The file cannot be written.
    """
    path = Path(path)
    form = OUTPUT_FORMATS.get(path.suffix.lower())
    if form is None:
        raise InputError(f"{path}: cannot be written; let its name end in {written_suffixes()}")
    scale = max([1.0, *(float(np.abs(block).max()) for block in blocks(wav))])
    rate = min(
        (rate for rate in form.rates if rate >= sample_rate),
        default=form.rates[-1] if form.rates else sample_rate,
    )
    scaled = (block / scale for block in blocks(wav, WRITE_SAMPLES))
    samples = resampled(scaled, sample_rate, rate)
    with atomic_path(path) as temporary:
        if form.container:
            _write_sndfile(temporary, samples, rate, form, len(wav), tags or {})
        else:
            ffmpeg.write_m4a(temporary, samples, rate, tags or {})
    return path


def written_suffixes() -> str:
    """Return the suffixes that can be written, for an error message."""
    return f"{', '.join(OUTPUT_SUFFIXES[:-1])} or {OUTPUT_SUFFIXES[-1]}"


def _write_sndfile(
    path: Path,
    samples: Iterable[np.ndarray],
    sample_rate: int,
    form: OutputFormat,
    n_samples: int,
    tags: Mapping[str, str],
) -> None:
    """Write blocks of mono sound by libsndfile."""
    container = form.container
    if container == "WAV" and n_samples * PCM_BYTES >= MAX_WAV_BYTES:
        container = "RF64"
    with soundfile.SoundFile(
        path,
        "w",
        sample_rate,
        1,
        form.subtype,
        format=container,
        compression_level=form.compression,
        bitrate_mode="VARIABLE" if container == "MP3" else None,
    ) as file:
        for name, text in tags.items():  # libsndfile takes them only before the samples
            setattr(file, name, text)
        for block in samples:
            file.write(block)
