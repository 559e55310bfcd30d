"""Recordings of every kind that libsndfile or FFmpeg writes, strange sounds, damaged files."""

import functools
import io
import itertools
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from fuzzing import media
from fuzzing.bench import Bench
from fuzzing.damage import damaged
from fuzzing.trials import Trial
from vc_lightning.audio.files import io as audio

Content = Callable[[], bytes]  # of a file; thousands of them do not fit into memory
RATES = (1, 7_999, 8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000, 192_001)
CHANNELS = (1, 2, 3, 6, 64, 255)  # at 1024 libsndfile crashes writing Vorbis
ROLES = ("source", "target")
DAMAGED_OF_A_KIND = 40
FILES_IN_A_FOLDER = 30
LONG_SECONDS = 7200


def trials(bench: Bench, seed: int) -> list[Trial]:
    """Every kind of file as source or target, strange sounds as both, damaged ones everywhere."""
    rng = random.Random(seed)
    speech, rate = audio.load(bench.source)
    found = []
    for kind in kinds():
        name = " ".join(str(part) for part in kind)
        content = functools.partial(_written, speech, *kind)
        found.append(_conversion(f"kind {name}", bench, rng.choice(ROLES), content))
    for (name, wav), role in itertools.product(sounds(speech, rate), ROLES):
        content = functools.partial(_written, wav, "WAV", "FLOAT", rate, 1)
        found.append(_conversion(f"sound {name}", bench, role, content))
    wholes = {" ".join(kind): _written(speech, *kind, rate, 1) for kind in formats(rate)}
    wholes |= media.files(speech, rate)
    for name, content in media.files(speech, rate).items():
        suffix = _suffix(name.split()[0])
        for role in ROLES:
            found.append(_conversion(f"kind {name}", bench, role, lambda c=content: c, suffix))
    for (name, content), role in itertools.product(media.hostile_files().items(), ROLES):
        found.append(_conversion(f"hostile {name}", bench, role, lambda c=content: c, ".mov"))
    files = []
    for (name, whole), index in itertools.product(wholes.items(), range(DAMAGED_OF_A_KIND)):
        content = functools.partial(_damaged, whole, f"{seed} {name} {index}")
        suffix = _suffix(name.split()[0])
        files.append((f"{name}_{index}{suffix}", content))
        title = f"damaged {name} {index}"
        found.append(_conversion(title, bench, rng.choice(ROLES), content, suffix))
    rng.shuffle(files)
    for start in range(0, len(files), FILES_IN_A_FOLDER):
        found.append(_training(bench, start, files[start : start + FILES_IN_A_FOLDER]))
    return found


def long_trials(bench: Bench) -> list[Trial]:
    """Two hours of speech as source, as target and among the recordings of a training run."""

    def write(folder: Path) -> Path:
        speech, rate = audio.load(bench.source)
        minute = np.tile(audio.resample(speech, rate, 8_000), 30)[: 60 * 8_000]
        path = folder / "long.flac"
        with soundfile.SoundFile(path, "w", 8_000, 1, "PCM_16") as file:
            for _ in range(LONG_SECONDS // 60):
                file.write(minute)
        return path

    def train(folder: Path) -> list[str]:
        shutil.copytree(bench.corpus, folder / "corpus")
        write(folder / "corpus" / "source")
        return bench.train(data__dir=folder / "corpus")

    return [
        *(Trial(f"two hours as {role}", "convert", _giving(bench, role, write)) for role in ROLES),
        Trial("two hours in a training run", "train", train, may_be_refused=False),
    ]


def _giving(bench: Bench, role: str, write: object) -> object:
    return lambda folder: bench.convert(**{role: write(folder)})


def formats(rate: int) -> Iterator[tuple[str, str]]:
    """Container and coding of everything that libsndfile writes."""
    for form in soundfile.available_formats():
        if form == "SD2":  # libsndfile would leave its second file, `._`, in the current folder
            continue
        for subtype in soundfile.available_subtypes(form):
            if _written(np.zeros(16), form, subtype, rate, 1):
                yield form, subtype


def kinds() -> Iterator[tuple[str, str, int, int]]:
    """Container, coding, rate and number of channels of everything that libsndfile writes."""
    for form, subtype in formats(16_000):
        for rate, n_channels in itertools.product(RATES, CHANNELS):
            if _written(np.zeros(16), form, subtype, rate, n_channels):
                yield form, subtype, rate, n_channels


def _written(wav: np.ndarray, form: str, subtype: str, rate: int, n_channels: int) -> bytes:
    """A file with a sound in each of its channels; b"" when libsndfile does not write such."""
    file = io.BytesIO()
    channels = wav if wav.ndim == 2 else np.repeat(wav[:, None], n_channels, axis=1)
    try:
        soundfile.write(file, channels, rate, subtype, format=form)
    except (soundfile.SoundFileError, ValueError):
        return b""
    return file.getvalue()


def sounds(speech: np.ndarray, rate: int) -> Iterator[tuple[str, np.ndarray]]:
    """Sounds that a converter seldom gets."""
    rng = np.random.default_rng(0)
    time = np.arange(2 * rate) / rate
    for seconds in (0, 1 / rate, 0.01, 0.03, 0.1, 0.3, 0.49, 0.5, 0.51, 0.7, 1, 20, 90):
        yield f"{seconds:g} s", np.tile(speech, 50)[: round(seconds * rate)]
    for level in (1e-40, 1e-20, 1e-6, 1e-4, 1e-3, 10, 1e4, 1e20, 3e38):
        yield f"{level:g} times", (speech / np.abs(speech).max()).astype(np.float64) * level
    for name, value in (("NaN", np.nan), ("infinite", np.inf), ("-infinite", -np.inf)):
        yield f"one {name}", np.where(np.arange(len(speech)) == 9_000, value, speech)
        yield f"all {name}", np.full(len(speech), value)
    yield "silence", np.zeros(len(speech))
    yield "DC", np.full(len(speech), 0.5)
    yield "speech on DC", speech + 0.9
    yield "clipped", np.clip(speech * 100, -1, 1)
    yield "signs", np.sign(speech)
    yield "tone", np.sin(2 * np.pi * 440 * time)
    yield "highest tone", np.cos(np.pi * np.arange(len(speech)))
    yield "noise", rng.standard_normal(len(speech)) * 0.1
    yield "click", np.where(np.arange(len(speech)) == 9_000, 1.0, 0)
    yield "one word and silence", np.concatenate([speech[:9_000], np.zeros(20 * rate)])
    yield "opposite channels", np.stack([speech, -speech], 1)
    yield "opposite huge channels", np.stack([speech, -speech], 1).astype(np.float64) * 3e38
    yield "a NaN channel", np.stack([speech, np.full(len(speech), np.nan)], 1)


def _suffix(form: str) -> str:
    suffix = f".{form.lower()}"
    return suffix if suffix in audio.AUDIO_SUFFIXES else ".wav"


def _damaged(whole: bytes, seed: str) -> bytes:
    return damaged(whole, random.Random(seed))


def _conversion(name: str, bench: Bench, role: str, content: Content, suffix: str = "") -> Trial:
    def make(folder: Path) -> list[str]:
        path = folder / f"strange{suffix or '.wav'}"
        path.write_bytes(content())
        return bench.convert(**{role: path})

    return Trial(f"{name} as {role}", "convert", make)


def _training(bench: Bench, start: int, files: list[tuple[str, Content]]) -> Trial:
    """Damaged files among the recordings of a training run, which goes on without them."""

    def make(folder: Path) -> list[str]:
        shutil.copytree(bench.corpus, folder / "corpus")
        for name, content in files:
            (folder / "corpus" / "source" / name.replace(" ", "_")).write_bytes(content())
        return bench.train(data__dir=folder / "corpus")

    def says(output: str) -> str:
        skipped = [line for line in output.splitlines() if line.startswith("skipped ")]
        known = f"{len(skipped)} of {len(files) + 6} files were skipped"
        return "" if not skipped or known in output else "a skipped file has not one line"

    name = f"training with damaged files {start} to {start + len(files)}"
    return Trial(name, "train", make, says, may_be_refused=False)
