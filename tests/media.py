"""Files that libsndfile cannot read, made with PyAV."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 48_000


def write_media(
    path: Path, codec: str, *wavs: np.ndarray, rate: int = RATE, picture: bool = False
) -> Path:
    """Write float sounds (n,) or (n, 2), one stream each, after a stream of pictures or none."""
    with av.open(str(path), "w") as container:
        if picture:
            video = container.add_stream("mpeg4", rate=5)
            video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        layouts = ["mono" if wav.ndim == 1 else "stereo" for wav in wavs]
        streams = [container.add_stream(codec, rate=rate, layout=layout) for layout in layouts]
        if picture:
            image = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux([*video.encode(image), *video.encode(None)])
        for wav, stream, layout in zip(wavs, streams, layouts, strict=True):
            samples = np.atleast_2d(np.asarray(wav, np.float32).T)
            resampler = av.AudioResampler(stream.format.name, layout, rate)
            for start in range(0, samples.shape[1], 1024):
                block = np.ascontiguousarray(samples[:, start : start + 1024])
                frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = start
                for converted in resampler.resample(frame):
                    container.mux(stream.encode(converted))
            container.mux(stream.encode(None))
    return path
