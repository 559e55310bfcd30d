"""Files that FFmpeg reads: of every container, and with headers that lie."""

import io
import struct
from fractions import Fraction

import av
import numpy as np

CONTAINERS = {  # name, with the suffix first: FFmpeg's format and codec, rate in Hz
    "m4a aac": ("ipod", "aac", 16_000),
    "m4a alac": ("ipod", "alac", 16_000),
    "mov pcm": ("mov", "pcm_s16le", 16_000),
    "webm opus": ("webm", "libopus", 48_000),
    "mka flac": ("matroska", "flac", 16_000),
    "aac adts": ("adts", "aac", 16_000),
    "amr narrow": ("amr", "libopencore_amrnb", 8_000),
    "wma 2": ("asf", "wmav2", 16_000),
    "avi mp3": ("avi", "libmp3lame", 16_000),
    "mpg mp2": ("mpeg", "mp2", 16_000),
    "flv aac": ("flv", "aac", 44_100),
}


def files(speech: np.ndarray, rate: int) -> dict[str, bytes]:
    """Speech in every container."""
    return {name: _written(speech, rate, *kind) for name, kind in CONTAINERS.items()}


def _written(speech: np.ndarray, rate: int, form: str, codec: str, to_rate: int) -> bytes:
    """Speech in one container."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=to_rate, layout="mono")
        if codec != "libopencore_amrnb":  # which has rates of its own
            stream.bit_rate = 64_000
        resampler = av.AudioResampler(stream.format.name, "mono", to_rate, frame_size=1024)
        frame = av.AudioFrame.from_ndarray(speech[None], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
        for converted in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(converted))
        container.mux(stream.encode(None))
    return file.getvalue()


def hostile_files() -> dict[str, bytes]:
    """Films whose headers promise too much, and playlists of other files."""
    return {
        "2^31 samples": film(2**31 - 1, 1),
        "2^32 samples of 2 bytes": film(2**32 - 1, 2),
        "eighty million packets": film(80_000_000, 1, codec=b"mp4a"),
        "3000 streams": film(100, 2, n_tracks=3000),
        "a playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n",
        "a list of files": b"ffconcat version 1.0\nfile /etc/passwd\n",
        "an empty cluster without end": bytes.fromhex("1a45dfa301ffffffffffffff") + b"\0" * 1000,
        "damaged packets": b"#!AMR\n" + b"\x7c" * 2_000_000,
        "syncwords": b"\xff\xf1" * 200_000,
    }


def film(n_samples: int, n_bytes: int, n_tracks: int = 1, codec: bytes = b"sowt") -> bytes:
    """A QuickTime film with 2000 bytes of sound, whose header speaks of n_samples."""
    description = struct.pack(">HHIHHHHI", 0, 0, 0, 1, 16, 0, 0, 16_000 << 16)
    table = _box(
        b"stbl",
        _box(b"stsd", _words(0, 1), _box(codec, b"\0" * 6, b"\0\1", description)),
        _box(b"stts", _words(0, 1, n_samples, 1)),
        _box(b"stsc", _words(0, 1, 1, n_samples, 1)),
        _box(b"stsz", _words(0, n_bytes, n_samples)),
        _box(b"stco", _words(0, 1, 40)),
    )
    media = _box(
        b"mdia",
        _box(b"mdhd", _words(0, 0, 0, 16_000, 100, 0)),
        _box(b"hdlr", _words(0, 0), b"soun", b"\0" * 13),
        _box(b"minf", _box(b"smhd", _words(0, 0)), table),
    )
    tracks = [
        _box(b"trak", _box(b"tkhd", _words(1, 0, 0, index + 1, 0, 100), b"\0" * 60), media)
        for index in range(n_tracks)
    ]
    header = _box(b"mvhd", _words(0, 0, 0, 1000, 100), b"\0" * 80)
    sound = np.random.default_rng(0).bytes(2000)
    return _box(b"ftyp", b"qt  ", _words(0)) + _box(b"mdat", sound) + _box(b"moov", header, *tracks)


def _box(name: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + name + content


def _words(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)
