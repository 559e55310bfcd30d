"""Read and write formats that libsndfile cannot, through FFmpeg's libraries (PyAV).

PyAV is imported when the first such file is opened: importing it takes 0.1 s.
"""

import contextlib
import errno
import logging
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from vc_lightning.common.errors import InputError

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream
    from av.container import InputContainer

log = logging.getLogger(__name__)

BLOCK_SAMPLES = 2**16  # of one channel; frames are collected up to this length
# Containers that hold one file. Playlists (HLS, DASH, concat) would open other files and addresses.
CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,eac3,flac,flv,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,"
    "mpeg,mpegts,ogg,tta,w64,wav,wv"
)
# Audio only: decoders of pictures and subtitles stay closed.
DECODERS = (
    "aac,aac_fixed,aac_latm,ac3,eac3,dca,alac,amrnb,amrwb,ape,flac,mp1,mp1float,mp2,mp2float,mp3,"
    "mp3float,opus,libopus,vorbis,speex,tta,wavpack,wmav1,wmav2,wmapro,"
    "wmalossless,wmavoice,nellymoser,g722,g726,g729,gsm,gsm_ms,truespeech,adpcm_ima_wav,adpcm_ms,"
    "adpcm_swf,adpcm_ima_qt,pcm_alaw,pcm_mulaw,pcm_u8,pcm_s8,pcm_s16le,pcm_s16be,pcm_s24le,"
    "pcm_s24be,pcm_s32le,pcm_s32be,pcm_f32le,pcm_f32be,pcm_f64le,pcm_f64be,pcm_dvd,pcm_bluray"
)
OPTIONS = {
    "format_whitelist": CONTAINERS,
    "codec_whitelist": DECODERS,
    "protocol_whitelist": "none",  # no file can make FFmpeg open another one
    "max_streams": "100",
}
MAX_DAMAGED = 1000  # packets, if they are most of a file
FULL_SCALE = {"u1": 2.0**7, "i2": 2.0**15, "i4": 2.0**31}  # of integer samples
AAC_BIT_RATE = 96_000  # of mono, in bits per second


class FFmpegAudio:
    """One audio stream of an open file.

    Attributes:
        sample_rate: Rate in Hz of the decoded sound, which may differ from the header's.
        n_channels: Number of channels of the decoded sound.
        seconds: Length that the header promises; None where it promises none.
    """

    def __init__(self, container: "InputContainer", stream: "AudioStream"):
        self._frames = _decoded(container, stream)
        self._first = next(self._frames, None)
        if self._first is None:
            raise InputError("the recording is empty (0 samples)")
        self.sample_rate = self._first.sample_rate
        self.n_channels = self._first.layout.nb_channels
        seconds = float((stream.duration or 0) * (stream.time_base or 0))
        self.seconds: float | None = seconds or (container.duration or 0) / 1e6 or None

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield float32 blocks (n, n_channels) to the end; may be called once.

        Raises:
            InputError: The rate or the number of channels changes on the way.
        """
        frame, n_held, n_before = self._first, 0, 0
        held: list[np.ndarray] = []
        while frame is not None:
            found = frame.sample_rate, frame.layout.nb_channels
            if found != (self.sample_rate, self.n_channels):
                raise InputError(
                    f"after {(n_before + n_held) / self.sample_rate:.1f} s its sound changes from "
                    f"{self.sample_rate} Hz and {self.n_channels} channels to {found[0]} Hz and "
                    f"{found[1]}; export it as wav"
                )
            held.append(_samples(frame))
            n_held += frame.samples
            if n_held >= BLOCK_SAMPLES:
                yield np.concatenate(held)
                n_before, held, n_held = n_before + n_held, [], 0
            frame = next(self._frames, None)
        if held:
            yield np.concatenate(held)


@contextlib.contextmanager
def open_audio(path: Path, index: int) -> Iterator[FFmpegAudio]:
    """Open one audio stream of a file.

    Encoder delay is removed as FFmpeg does it, where the container states it.

    Args:
        path: The file.
        index: Number of the stream among the file's audio streams; 0 is the first.

    Raises:
        InputError: The file cannot be read, or has no such audio stream. The message does not name
            the file.
    """
    with _open(path) as container:
        streams = container.streams.audio
        if not streams:
            raise InputError("holds no audio stream")
        if index >= len(streams):
            raise InputError(
                f"has {len(streams)} audio streams, counted from 0, but no stream={index}"
            )
        stream = streams[index]
        if stream.codec_context is None:
            raise InputError("FFmpeg has no decoder for its sound; export it as wav")
        stream.codec_context.thread_count = 1
        yield FFmpegAudio(container, stream)


def tags(path: Path) -> dict[str, str]:
    """Return the text tags of a file and of its first audio stream, with lower-case names.

    Raises:
        InputError: The file cannot be read. The message does not name the file.
    """
    with _open(path) as container:
        streams = container.streams.audio
        found = container.metadata | (streams[0].metadata if streams else {})
        return {name.lower(): text for name, text in found.items()}


def write_m4a(
    path: Path, blocks: Iterable[np.ndarray], sample_rate: int, tags: Mapping[str, str]
) -> None:
    """Write mono sound as AAC in an MPEG-4 file.

    Args:
        path: The file, which is replaced.
        blocks: Float32 blocks (n,) in −1…1.
        sample_rate: In Hz; one that AAC supports.
        tags: Text tags, such as {"title": "…"}.
    """
    import av

    with av.open(str(path), "w", format="ipod") as container:
        container.metadata.update(tags)
        stream = container.add_stream("aac", rate=sample_rate, layout="mono")
        stream.bit_rate = AAC_BIT_RATE
        time = 0
        for block in blocks:
            samples = np.ascontiguousarray(block[None], dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = sample_rate
            frame.time_base = Fraction(1, sample_rate)
            frame.pts = time  # without times the encoder's delay is not written
            time += len(block)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class _File:
    """An open file whose `seek` returns errors: PyAV prints exceptions of callbacks."""

    def __init__(self, file: BinaryIO):
        self.name = file.name
        self.read = file.read
        self.tell = file.tell
        self._seek = file.seek

    def seek(self, offset: int, whence: int) -> int:
        """Move to a place; return it, or a negative error number."""
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -errno.EINVAL


@contextlib.contextmanager
def _open(path: Path) -> Iterator["InputContainer"]:
    """Open a file for reading; FFmpeg's errors become `InputError`."""
    import av

    try:
        # An open file has no address: no name can make FFmpeg use another protocol.
        with (
            path.open("rb") as file,
            av.open(_File(file), "r", options=OPTIONS, metadata_errors="replace") as container,
        ):
            yield container
    except av.error.FFmpegError as error:
        reason = error.strerror
        if error.errno == errno.ENOMEM:  # a limit of `OPTIONS`, too
            reason = "its header declares too much memory or too many streams"
        raise InputError(
            f"is not audio that libsndfile or FFmpeg can read ({reason}); export it as wav, flac, "
            "ogg or mp3"
        ) from error


def _decoded(container: "InputContainer", stream: "AudioStream") -> Iterator["AudioFrame"]:
    """Yield the frames of a stream; damaged packets are left out and counted in one warning.

    Raises:
        InputError: Most packets are damaged.
    """
    import av

    n_packets = n_damaged = n_frames = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            if not n_frames:
                raise
            log.warning("%s: is damaged; only the sound before the damage is used", container.name)
            return
        if packet is None:
            break
        n_packets += 1
        try:
            frames = packet.decode()
        except av.error.EOFError:
            break
        except av.error.InvalidDataError:
            n_damaged += 1
            if n_damaged > MAX_DAMAGED and 2 * n_damaged > n_packets:
                raise InputError(f"{n_damaged} of {n_packets} packets are damaged") from None
            continue
        for frame in frames:
            if frame.samples:
                n_frames += 1
                yield frame
    if n_damaged and n_frames:
        log.warning("%s: %d damaged packets were left out", container.name, n_damaged)


def _samples(frame: "AudioFrame") -> np.ndarray:
    """Return the samples of a frame, float32 (n, n_channels) in −1…1."""
    samples = frame.to_ndarray()
    is_packed = frame.format.is_packed  # (1, n · n_channels), else (n_channels, n)
    samples = samples.reshape(-1, frame.layout.nb_channels) if is_packed else samples.T
    scale = FULL_SCALE.get(samples.dtype.str[1:])
    if scale is None:
        return samples.astype(np.float32, copy=False)
    offset = scale if samples.dtype.kind == "u" else 0.0
    return ((samples.astype(np.float64) - offset) / scale).astype(np.float32)
