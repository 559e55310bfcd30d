"""The same sentences under worse conditions: how much of a conversion is left."""

import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import scipy
import soundfile

from vc_lightning.audio import io as audio
from vc_lightning.audio import voice_activity
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.recordings import Voice
from vc_lightning.evaluation import scorers as judges
from vc_lightning.evaluation.metrics import Figure
from vc_lightning.evaluation.results import Outcome, Trial, figures

CLEAN = "as recorded"
GAIN_DB = 12.0
QUIETER_DB = -20.0
DC_OFFSET = 0.25  # of the peak
HUM_HZ = 50
HUM_AMPLITUDES = (1.0, 0.5, 0.25)  # of 50, 100 and 150 Hz
HUM_DB = -20.0  # of all three together, to the recording
REVERBERATION_SECONDS = 0.5  # until the room is 60 dB quieter
DIRECT_DB = 0.0  # of the direct sound to all that the room adds
FIRST_ECHO_SECONDS = 0.005
TELEPHONE_HZ = 8_000
MP3_KBITS = 64
MP3_RANGES = {32_000: (32, 320), 16_000: (8, 160), 0: (8, 64)}  # kbit/s, from a sample rate on
KEYS = {  # of `TITLES`
    "similarity/to_target": "similarity to the target ↑",
    "similarity/to_source": "to the source's speaker ↓",
    "similarity/nearer": "nearer to the target ↑",
    "words/character_errors": "character error rate ↓",
    "naturalness/conversion": "DNSMOS ↑",
}


def quieter(wav: np.ndarray, _: int) -> np.ndarray:
    """20 dB less."""
    return voice_activity.amplify(wav, QUIETER_DB)


def louder(wav: np.ndarray, _: int) -> np.ndarray:
    """12 dB more in floating point, which may exceed full scale."""
    return voice_activity.amplify(wav, GAIN_DB)


def clipped(wav: np.ndarray, _: int) -> np.ndarray:
    """12 dB above full scale at its peak and cut off there: at a quarter of the peak."""
    return voice_activity.amplify(wav / np.abs(wav).max(), GAIN_DB).clip(-1, 1)


def offset(wav: np.ndarray, _: int) -> np.ndarray:
    """A DC offset of a quarter of the peak."""
    return wav + DC_OFFSET * np.abs(wav).max()


def humming(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mains hum of 50 Hz and two harmonics, 20 dB below the recording."""
    seconds = np.arange(len(wav)) / sample_rate
    hum = sum(
        amplitude * np.sin(2 * np.pi * HUM_HZ * order * seconds)
        for order, amplitude in enumerate(HUM_AMPLITUDES, start=1)
    ).astype(np.float32)
    return wav + voice_activity.amplify(
        hum, voice_activity.rms_dbfs(wav) + HUM_DB - voice_activity.rms_dbfs(hum)
    )


def reverberant(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """A room: noise that decays by 60 dB in 0.5 s, as strong as the direct sound."""
    seconds = np.arange(round(REVERBERATION_SECONDS * sample_rate)) / sample_rate
    room = np.random.default_rng(0).standard_normal(len(seconds))
    room *= 10 ** (-3 * seconds / REVERBERATION_SECONDS) * (seconds >= FIRST_ECHO_SECONDS)
    room *= 10 ** (-DIRECT_DB / 20) / np.sqrt(np.square(room).sum())
    room[0] = 1
    return scipy.signal.fftconvolve(wav, room)[: len(wav)].astype(np.float32)


def telephone(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Sampled at 8 kHz: nothing above 4 kHz is left."""
    narrow = audio.resample(wav, sample_rate, TELEPHONE_HZ)
    return _of_length(audio.resample(narrow, TELEPHONE_HZ, sample_rate), len(wav))


def mp3(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Through MP3 (LAME, by libsndfile) at a constant 64 kbit/s."""
    file = io.BytesIO(mp3_bytes(wav, sample_rate))
    return _of_length(soundfile.read(file, dtype="float32")[0], len(wav))


def mp3_bytes(wav: np.ndarray, sample_rate: int) -> bytes:
    """wav (n,) as an MP3 file of constant bit rate.

    libsndfile's compression level is the place of the bit rate between the highest (0) and the
    lowest (1) of those that MP3 has for a sample rate.
    """
    low, high = next(both for rate, both in MP3_RANGES.items() if sample_rate >= rate)
    file = io.BytesIO()
    soundfile.write(
        file,
        wav / max(1.0, np.abs(wav).max()),
        sample_rate,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT",
        compression_level=(high - MP3_KBITS) / (high - low),
    )
    return file.getvalue()


def _of_length(wav: np.ndarray, length: int) -> np.ndarray:
    return np.pad(wav, (0, max(0, length - len(wav))))[:length]


CONDITIONS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "20 dB quieter": quieter,
    "12 dB louder, not clipped": louder,
    "12 dB above full scale, clipped": clipped,
    "DC offset of a quarter of the peak": offset,
    "50 Hz hum, 20 dB below": humming,
    "room, 0.5 s of reverberation": reverberant,
    "sampled at 8 kHz (telephone)": telephone,
    "mp3 at 64 kbit/s": mp3,
}


def chosen(outcomes: Sequence[Outcome], n: int, kind: str) -> list[int]:
    """Places of n conversions of every group of a kind, spread evenly over it."""
    groups = defaultdict(list)
    for index, outcome in enumerate(outcomes):
        groups[outcome.pair.groups.get(kind)].append(index)
    return [
        own[place]
        for own in groups.values()
        for place in np.unique(np.linspace(0, len(own) - 1, min(n, len(own))).round().astype(int))
    ]


def convert(
    converter: VoiceConverter,
    outcomes: Sequence[Outcome],
    places: Iterable[int],
    voices: Mapping[tuple[Path, ...], Voice],
    seed: int,
) -> tuple[list[Trial], list[str]]:
    """Converts some sources under every condition, into the voices of clean recordings.

    Args:
        outcomes: of the clean recordings; `places`, of those that are taken.
        voices: by the recordings of `Pair.voice`.
        seed: of the vocoder.
    Returns: the trials, the clean one first, and sentences on what was left out.
    """
    places = list(places)
    trials, left_out = [Trial(CLEAN, [(index, outcomes[index]) for index in places])], []
    for condition, change in CONDITIONS.items():
        if change is mp3 and "MP3" not in soundfile.available_formats():
            left_out.append(f"robustness, {condition}: this libsndfile writes no MP3")
            continue
        trial = Trial(condition)
        for index in places:
            clean = outcomes[index]
            source = change(clean.source_wav, converter.sample_rate).astype(np.float32)
            try:
                wav = converter.convert_to(source, voices[clean.pair.voice], seed)
            except InputError as error:
                trial.refused.append(f"{clean.pair.source}: {error}")
                continue
            trial.outcomes.append((index, Outcome(clean.pair, source, source, wav)))
        trials.append(trial)
    return trials, left_out


def judge_naturalness(listener: judges.Listener, trials: Sequence[Trial], sample_rate: int) -> None:
    """DNSMOS of the conversions under every condition but the clean one, which has its own."""
    for trial in trials[1:]:
        for _, outcome in trial.outcomes:
            outcome.note("naturalness/conversion", listener.naturalness(outcome.wav, sample_rate))


def judge_words(recogniser: judges.Recogniser, trials: Sequence[Trial], sample_rate: int) -> None:
    """Errors against what the recogniser heard in the clean sources."""
    clean = dict(trials[0].outcomes) if trials else {}
    for trial in trials[1:]:
        for index, outcome in trial.outcomes:
            reference = clean[index].words.get("source")
            if not reference:
                continue
            heard = ""  # where there is no speech, Whisper makes up some
            if outcome.values["similarity/speech"]:
                language = outcome.pair.language
                heard = recogniser.transcript(outcome.wav, sample_rate, language)
            n_errors, length = judges.character_errors(reference, heard)
            outcome.note("words/character_errors", n_errors / length, length)
            outcome.words = {"conversion": heard}


def summary(trial: Trial) -> dict[str, Figure]:
    """Means with intervals of what the table shows."""
    found = figures([outcome for _, outcome in trial.outcomes])
    return {key: found[key] for key in KEYS if key in found}


def to_json(trials: Sequence[Trial]) -> list[dict[str, object]]:
    """The same for report.json."""
    return [
        {
            "condition": trial.condition,
            "converted": len(trial.outcomes),
            "refused": trial.refused,
            "figures": {key: asdict(value) for key, value in summary(trial).items()},
        }
        for trial in trials
    ]


def lines(trials: Sequence[Trial]) -> Iterator[str]:
    """A section of report.md: one line a condition."""
    by_condition = [(trial, summary(trial)) for trial in trials]
    keys = {key: title for key, title in KEYS.items() if any(key in s for _, s in by_condition)}
    yield from ("## Robustness", "")
    yield (
        "The same sources under worse conditions, into the same voices; words are compared with "
        "those of the source as recorded. Means are of what could be converted."
    )
    yield from ("", f"| source | converted | {' | '.join(keys.values())} |")
    yield "|---|---:|" + "---:|" * len(keys)
    for trial, found in by_condition:
        n = len(trial.outcomes)
        values = [f"{found[key].mean:.3f}" if key in found else "–" for key in keys]
        yield f"| {trial.condition} | {n} of {n + len(trial.refused)} | {' | '.join(values)} |"
    yield from ("", *(f"- refused: {sentence}" for trial in trials for sentence in trial.refused))
