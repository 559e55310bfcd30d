"""Convert sources under worse recording conditions, and compare the scores."""

import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import scipy
import soundfile

from vc_lightning.audio import io as audio
from vc_lightning.audio import voice_activity
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.recording import Recording
from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.scorers.naturalness import Listener
from vc_lightning.evaluation.scorers.texts import character_errors
from vc_lightning.evaluation.scorers.words import WordRecogniser
from vc_lightning.evaluation.scores import ScoredConversion, figures
from vc_lightning.evaluation.statistics import Figure

CLEAN = "as recorded"
GAIN_DB = 12.0
QUIETER_DB = -20.0
DC_OFFSET = 0.25  # of the peak
HUM_HZ = 50
HUM_AMPLITUDES = (1.0, 0.5, 0.25)  # of 50, 100 and 150 Hz
HUM_DB = -20.0  # all three together, relative to the recording
REVERBERATION_SECONDS = 0.5  # RT60, until the reverberation is 60 dB quieter
DIRECT_DB = 0.0  # direct sound relative to all reverberation
FIRST_ECHO_SECONDS = 0.005
TELEPHONE_HZ = 8_000
MP3_KBITS = 64
# Lowest and highest bit rate of MP3 in kbit/s, by the lowest sample rate in Hz that has them.
MP3_RANGES = {32_000: (32, 320), 16_000: (8, 160), 0: (8, 64)}
COLUMNS = {  # scores of the table, with short titles
    "campplus/to_target": "CAM++ to the target ↑",
    "campplus/nearer": "nearer by CAM++ ↑",
    "distillmos/conversion": "DistillMOS ↑",
    "words/character_errors": "character error rate ↓",
    "ge2e/to_target": "GE2E to the target ↑",
    "ge2e/nearer": "nearer by GE2E ↑",
    "dnsmos/conversion": "DNSMOS ↑",
}


@dataclass(frozen=True)
class ConditionResults:
    """Conversions of some sources under one condition.

    Attributes:
        condition: Name of the condition, a key of `CONDITIONS` or `CLEAN`.
        conversions: The conversions by the number of their pair.
        refused: One sentence for each source that could not be converted.
    """

    condition: str
    conversions: dict[int, ScoredConversion] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


def quieter(wav: np.ndarray, _: int) -> np.ndarray:
    """Lower the level by 20 dB."""
    return voice_activity.amplify(wav, QUIETER_DB)


def louder(wav: np.ndarray, _: int) -> np.ndarray:
    """Raise the level by 12 dB; floating-point samples may exceed full scale."""
    return voice_activity.amplify(wav, GAIN_DB)


def clipped(wav: np.ndarray, _: int) -> np.ndarray:
    """Raise the peak to 12 dB above full scale, and clip at full scale, a quarter of the peak."""
    return voice_activity.amplify(wav / np.abs(wav).max(), GAIN_DB).clip(-1, 1)


def offset(wav: np.ndarray, _: int) -> np.ndarray:
    """Add a DC offset of a quarter of the peak."""
    return wav + DC_OFFSET * np.abs(wav).max()


def humming(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Add mains hum of 50 Hz with two harmonics, 20 dB below the recording."""
    seconds = np.arange(len(wav)) / sample_rate
    hum = np.zeros(len(wav))
    for order, amplitude in enumerate(HUM_AMPLITUDES, start=1):
        hum += amplitude * np.sin(2 * np.pi * HUM_HZ * order * seconds)
    hum = hum.astype(np.float32)
    return wav + voice_activity.amplify(
        hum, voice_activity.rms_dbfs(wav) + HUM_DB - voice_activity.rms_dbfs(hum)
    )


def reverberant(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Add reverberation: decaying noise with an RT60 of 0.5 s, as strong as the direct sound."""
    seconds = np.arange(round(REVERBERATION_SECONDS * sample_rate)) / sample_rate
    room = np.random.default_rng(0).standard_normal(len(seconds))
    room *= 10 ** (-3 * seconds / REVERBERATION_SECONDS) * (seconds >= FIRST_ECHO_SECONDS)
    room *= 10 ** (-DIRECT_DB / 20) / np.sqrt(np.square(room).sum())
    room[0] = 1
    return scipy.signal.fftconvolve(wav, room)[: len(wav)].astype(np.float32)


def telephone(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Resample to 8 kHz and back, which removes all above 4 kHz."""
    narrow = audio.resample(wav, sample_rate, TELEPHONE_HZ)
    return _of_length(audio.resample(narrow, TELEPHONE_HZ, sample_rate), len(wav))


def mp3(wav: np.ndarray, sample_rate: int) -> np.ndarray:
    """Encode as MP3 (libsndfile's LAME) at a constant bit rate of 64 kbit/s, and decode."""
    file = io.BytesIO(mp3_bytes(wav, sample_rate))
    return _of_length(soundfile.read(file, dtype="float32")[0], len(wav))


def mp3_bytes(wav: np.ndarray, sample_rate: int) -> bytes:
    """Encode wav (n,) as an MP3 file of constant bit rate.

    libsndfile's compression level is the position of the bit rate between the highest (0) and the
    lowest (1) bit rate of MP3 at a sample rate.
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


def chosen(pairs: Sequence[Pair], n: int, kind: str) -> list[int]:
    """Choose pairs, spread evenly over every group.

    Args:
        pairs: All pairs.
        n: Largest number of pairs of each group.
        kind: Kind of the groups, a key of `Pair.groups`.

    Returns:
        Numbers of the pairs.
    """
    groups = defaultdict(list)
    for index, pair in enumerate(pairs):
        groups[pair.groups.get(kind)].append(index)
    return [
        own[place]
        for own in groups.values()
        for place in np.unique(np.linspace(0, len(own) - 1, min(n, len(own))).round().astype(int))
    ]


def unavailable() -> list[str]:
    """List the conditions that this machine cannot simulate, one sentence each."""
    return [
        f"robustness, {condition}: this libsndfile writes no MP3"
        for condition, change in CONDITIONS.items()
        if not _is_available(change)
    ]


def _is_available(change: Callable) -> bool:
    return change is not mp3 or "MP3" in soundfile.available_formats()


def convert(
    converter: VoiceConverter,
    clean: Mapping[int, ScoredConversion],
    converted: Callable[[Pair, Recording], ScoredConversion],
) -> list[ConditionResults]:
    """Convert sources under every condition; the target voices stay clean.

    Args:
        converter: The converter.
        clean: Conversions of the sources as recorded, by the number of their pair.
        converted: Converts a source to the voice of a pair.

    Returns:
        Results for clean sources, then for each condition.
    """
    found = [ConditionResults(CLEAN, dict(clean))]
    for condition, change in CONDITIONS.items():
        if not _is_available(change):
            continue
        results = ConditionResults(condition)
        for index, reference in clean.items():
            pair = reference.pair
            wav = change(reference.sounds.source, converter.sample_rate).astype(np.float32)
            try:
                source = converter.analyze(wav)
            except InputError as error:
                results.refused.append(f"{pair.source}: {error}")
                continue
            results.conversions[index] = converted(pair, source)
        found.append(results)
    return found


def score_naturalness(
    judge: str, listener: Listener, conditions: Sequence[ConditionResults], sample_rate: int
) -> None:
    """Set the naturalness of conversions under every condition but the first, which has it already.

    Args:
        judge: Section of the scores, "distillmos" or "dnsmos".
        listener: Scores naturalness.
        conditions: The results, those for clean sources first.
        sample_rate: Sample rate of the sound in Hz.
    """
    for results in conditions[1:]:
        for conversion in results.conversions.values():
            score = listener.naturalness(conversion.sounds.conversion, sample_rate)
            conversion.scores[f"{judge}/conversion"] = score


def score_words(
    recogniser: WordRecogniser, conditions: Sequence[ConditionResults], sample_rate: int
) -> None:
    """Set the character error rates; the references are transcripts of the clean sources.

    Args:
        recogniser: Transcribes recordings.
        conditions: The results, those for clean sources first.
        sample_rate: Sample rate of the sound in Hz.
    """
    for results in conditions[1:]:
        for index, conversion in results.conversions.items():
            reference = conditions[0].conversions[index].transcripts.get("words/source")
            if not reference:
                continue
            after = ""  # without speech, Whisper would make up words
            if conversion.scores.has_speech:
                language = conversion.pair.language
                wav = conversion.sounds.conversion
                after = recogniser.transcript(wav, sample_rate, language)
            conversion.scores["words/character_errors"] = character_errors(reference, after)
            conversion.transcripts["words/conversion"] = after


def summary(results: ConditionResults) -> dict[str, Figure]:
    """Average the scores of `COLUMNS`."""
    return figures(list(results.conversions.values()), list(COLUMNS))


def to_json(conditions: Sequence[ConditionResults]) -> list[dict[str, object]]:
    """Return the results for report.json."""
    return [
        {
            "condition": results.condition,
            "converted": len(results.conversions),
            "refused": results.refused,
            "figures": {key: asdict(value) for key, value in summary(results).items()},
        }
        for results in conditions
    ]


def lines(conditions: Sequence[ConditionResults]) -> Iterator[str]:
    """Yield the section of report.md, with one row per condition."""
    summaries = [summary(results) for results in conditions]
    columns = {k: title for k, title in COLUMNS.items() if any(k in found for found in summaries)}
    yield from ("## Robustness", "")
    yield (
        "The same sources under worse conditions, converted to the same voices; transcripts are "
        "compared with those of the sources as recorded. Means are over the sources that could be "
        "converted."
    )
    yield from ("", f"| source | converted | {' | '.join(columns.values())} |")
    yield "|---|---:|" + "---:|" * len(columns)
    for results, found in zip(conditions, summaries, strict=True):
        n = len(results.conversions)
        values = [f"{found[key].mean:.3f}" if key in found else "–" for key in columns]
        converted = f"{n} of {n + len(results.refused)}"
        yield f"| {results.condition} | {converted} | {' | '.join(values)} |"
    refused = [sentence for results in conditions for sentence in results.refused]
    yield from ("", *(f"- refused: {sentence}" for sentence in refused))
