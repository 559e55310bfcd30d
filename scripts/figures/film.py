"""A short film of conversions: mels of words, voice and result, and their sounds in turn."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soxr
import torch
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import plots

WIDTH, HEIGHT = 960, 540  # pixels
FRAMES_PER_SECOND = 12
SOUND_RATE = 48_000  # Hz
VIDEO_QUALITY, SOUND_BITS = "30", 96_000  # x264's constant rate factor; bits a second
INK, GREY, GROUND, PLAYHEAD = "#f4f1f6", "#9d94a6", "#17131c", "#f1605d"
LEFT, TOP, ROW, PICTURE_HEIGHT = 150, 96, 136, 100  # pixels
PICTURE_WIDTH = WIDTH - LEFT - 40
BUTTON = (790, TOP + ROW + PICTURE_HEIGHT // 2)  # where the poster's first scene is empty
POSTER_COLOURS = 128
PAUSE_S, CARD_S = 0.4, 2.5  # after a row; of the cards at both ends
LABELS = ("the words", "the voice", "both")


@dataclass(frozen=True)
class Scene:
    """Three sounds, float32 (n,) at the rate of the mels: words, voice and conversion."""

    title: str
    wavs: tuple[np.ndarray, np.ndarray, np.ndarray]


def write(path: Path, poster: Path, scenes: Sequence[Scene], mel: MelSpectrogram) -> None:
    """Write the film, and a picture of its first scene.

    Args:
        path: The film, an mp4 with H.264 and AAC.
        poster: The picture, a png.
        scenes: What is shown and heard.
        mel: Computes the pictures of the sounds.
    """
    pieces = [
        card("One voice in, another out", "recordings of Debian's packages, converted on a CPU"),
        *(piece for scene in scenes for piece in scene_pieces(scene, mel)),
        card("Every conversion is marked as synthetic.", "vc_lightning"),
    ]
    image = drawn(scenes[0], mel)
    draw = ImageDraw.Draw(image)
    x, y = BUTTON
    draw.ellipse((x - 56, y - 56, x + 56, y + 56), fill=PLAYHEAD)
    draw.polygon([(x - 18, y - 30), (x - 18, y + 30), (x + 36, y)], fill=INK)
    image.quantize(POSTER_COLOURS).save(poster, optimize=True)
    encode(path, pieces, mel.sample_rate)


def card(first: str, second: str) -> tuple[list[Image.Image], float, np.ndarray]:
    """Make a silent piece of two lines of text: its frames, their seconds and its sound."""
    image = Image.new("RGB", (WIDTH, HEIGHT), GROUND)
    draw = ImageDraw.Draw(image)
    draw.text((WIDTH / 2, HEIGHT / 2 - 20), first, INK, font(36), anchor="mm")
    draw.text((WIDTH / 2, HEIGHT / 2 + 34), second, GREY, font(20), anchor="mm")
    return [image] * round(CARD_S * FRAMES_PER_SECOND), CARD_S, np.zeros(0, np.float32)


def scene_pieces(
    scene: Scene, mel: MelSpectrogram
) -> Iterator[tuple[list[Image.Image], float, np.ndarray]]:
    """Make a piece for each sound of a scene, with a line that moves over its picture."""
    base = drawn(scene, mel)
    longest = max(map(len, scene.wavs))
    for row, wav in enumerate(scene.wavs):
        seconds = len(wav) / mel.sample_rate + PAUSE_S
        top = TOP + ROW * row
        frames = []
        for number in range(round(seconds * FRAMES_PER_SECOND)):
            image = base.copy()
            at = min(number / FRAMES_PER_SECOND * mel.sample_rate, len(wav)) / longest
            x = LEFT + at * PICTURE_WIDTH
            draw = ImageDraw.Draw(image)
            draw.rectangle((x - 1, top, x + 1, top + PICTURE_HEIGHT), fill=PLAYHEAD)
            draw.rectangle((24, top, 30, top + PICTURE_HEIGHT), fill=PLAYHEAD)
            frames.append(image)
        yield frames, seconds, wav


def drawn(scene: Scene, mel: MelSpectrogram) -> Image.Image:
    """Draw a scene's title and the mels of its sounds."""
    image = Image.new("RGB", (WIDTH, HEIGHT), GROUND)
    draw = ImageDraw.Draw(image)
    draw.text((LEFT, 40), scene.title, INK, font(26), anchor="lm")
    longest = max(map(len, scene.wavs))
    for row, (label, wav) in enumerate(zip(LABELS, scene.wavs, strict=True)):
        top = TOP + ROW * row
        values = torch.from_numpy(mel.extract(wav, mel.sample_rate))[None]
        size = round(PICTURE_WIDTH * len(wav) / longest), PICTURE_HEIGHT
        picture = Image.fromarray(plots.picture(values)).resize(size, Image.Resampling.BICUBIC)
        image.paste(picture, (LEFT, top))
        draw.text((LEFT - 14, top + PICTURE_HEIGHT / 2), label, INK, font(17), anchor="rm")
    return image


def encode(
    path: Path, pieces: Sequence[tuple[list[Image.Image], float, np.ndarray]], sample_rate: int
) -> None:
    """Write frames and sound as mp4; a piece's sound lasts as long as its frames."""
    sound = []
    for frames, _, wav in pieces:
        length = round(len(frames) / FRAMES_PER_SECOND * SOUND_RATE)
        resampled = soxr.resample(wav, sample_rate, SOUND_RATE)[:length] if len(wav) else wav
        sound.append(np.pad(resampled, (0, length - len(resampled))))
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        video = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.options = {"crf": VIDEO_QUALITY, "preset": "slow", "tune": "animation"}
        audio = container.add_stream("aac", rate=SOUND_RATE)
        audio.bit_rate, audio.layout = SOUND_BITS, "mono"
        for image in (image for frames, _, _ in pieces for image in frames):
            container.mux(video.encode(av.VideoFrame.from_image(image)))
        container.mux(video.encode())
        frame = av.AudioFrame.from_ndarray(
            np.concatenate(sound)[None].astype(np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.time_base, frame.pts = SOUND_RATE, Fraction(1, SOUND_RATE), 0
        container.mux(audio.encode(frame))
        container.mux(audio.encode())


def font(size: int) -> ImageFont.FreeTypeFont:
    """Load the font that comes with matplotlib."""
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)
