"""Score conversions: voice, prosody, distortion, naturalness and words."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from vc_lightning.audio import pitch
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.measuring import MeasuredConversion
from vc_lightning.evaluation import metrics, scorers
from vc_lightning.evaluation.results import Rate, ScoredConversion, Scores, Transcripts


class WordRecogniser(Protocol):
    """Transcribes recordings."""

    name: str

    def understands(self, language: str) -> bool:
        """Return whether the recogniser supports a language; "" where it is unknown."""

    def transcript(self, wav: np.ndarray, sample_rate: int, language: str = "en") -> str:
        """Transcribe a recording (n,) to plain text, see `scorers.plain_text`."""


class NaturalnessListener(Protocol):
    """Scores the naturalness of recordings."""

    def naturalness(self, wav: np.ndarray, sample_rate: int) -> float:
        """Return the score of a recording (n,), 1 to 5."""


def show_progress(items: Iterable, title: str) -> Iterable:
    """Yield the items, with a progress bar on a terminal."""
    return tqdm(items, desc=title, disable=None, leave=False)


def score_voice(scores: Scores, measured: MeasuredConversion) -> None:
    """Set the similarities; a conversion without speech counts as not nearer to the target.

    Args:
        scores: The scores to set.
        measured: The conversion, compared with the reference recordings of its pair.
    """
    scores.similarity_before = measured.before
    scores.similarity_to_target = measured.to_target
    scores.similarity_to_source = measured.to_source
    scores.similarity_speech = scores.similarity_nearer = 0.0
    if measured.to_target is not None and measured.to_source is not None:
        scores.similarity_speech = 1.0
        scores.similarity_nearer = float(measured.to_target > measured.to_source)


def score_acceptance(scores: Scores, threshold: float) -> None:
    """Set whether the conversion is accepted as the target speaker.

    Args:
        scores: The scores to set.
        threshold: Smallest similarity at which a recording is accepted.
    """
    to_target = scores.similarity_to_target
    scores.similarity_accepted = float(to_target is not None and to_target >= threshold)


def score_distortion(converter: VoiceConverter, conversions: Sequence[ScoredConversion]) -> None:
    """Set the mel-cepstral distortion of pairs with a parallel recording.

    Args:
        converter: Reads recordings and makes mels.
        conversions: The conversions.
    """
    rate = converter.sample_rate
    for conversion in conversions:
        if conversion.pair.parallel is None or not conversion.scores.has_speech:
            continue
        sounds, scores = conversion.sounds, conversion.scores
        wavs = converter.load(conversion.pair.parallel), sounds.source, sounds.conversion
        target, before, after = (converter.mel.extract(wav, rate) for wav in wavs)
        scores.distortion_before = metrics.mel_cepstral_distortion(target, before)
        scores.distortion_conversion = metrics.mel_cepstral_distortion(target, after)


def score_prosody(converter: VoiceConverter, conversions: Sequence[ScoredConversion]) -> None:
    """Set the scores of F0, compared with the sources and with the targets' recordings.

    Args:
        converter: Reads recordings.
        conversions: The conversions.
    """
    rate, hop_length = converter.sample_rate, converter.mel.hop_length
    known: dict[Path, np.ndarray] = {}

    def contour(path: Path) -> np.ndarray:
        if path not in known:
            known[path] = pitch.track(converter.load(path), rate, hop_length)
        return known[path]

    for conversion in show_progress(conversions, "prosody"):
        pair, scores = conversion.pair, conversion.scores
        source = contour(pair.source)
        target = np.concatenate([contour(path) for path in (*pair.voice, pair.target_reference)])
        after = pitch.track(conversion.sounds.conversion, rate, hop_length)
        scores.prosody_correlation = metrics.f0_correlation(source, after)
        scores.prosody_voiced_agreement = metrics.voiced_agreement(source, after)
        scores.prosody_range_source = metrics.f0_range(source)
        scores.prosody_range_conversion = metrics.f0_range(after)
        scores.prosody_range_target = metrics.f0_range(target)
        scores.prosody_distance_before = metrics.f0_distance(source, target)
        scores.prosody_distance = metrics.f0_distance(after, target)


def score_naturalness(
    listener: NaturalnessListener, conversions: Sequence[ScoredConversion], mel: MelSpectrogram
) -> None:
    """Set the DNSMOS of sources, of the vocoder alone and of conversions.

    Sources are brought to the level of the mels, which the others have already.

    Args:
        listener: Scores naturalness.
        conversions: The conversions.
        mel: The mel-spectrogram of the converter.
    """
    rate = mel.sample_rate
    known: dict[Path, tuple[float, float]] = {}
    for conversion in show_progress(conversions, "naturalness"):
        source, sounds, scores = conversion.pair.source, conversion.sounds, conversion.scores
        if source not in known:
            recording = listener.naturalness(mel.leveled(sounds.source, rate), rate)
            known[source] = recording, listener.naturalness(sounds.vocoder, rate)
        scores.naturalness_recording, scores.naturalness_vocoder = known[source]
        scores.naturalness_conversion = listener.naturalness(sounds.conversion, rate)


def score_words(
    recogniser: WordRecogniser, conversions: Sequence[ScoredConversion], sample_rate: int
) -> Counter[str]:
    """Set the error rates; the reference is the same recogniser's transcript of the source.

    Args:
        recogniser: Transcribes recordings.
        conversions: The conversions.
        sample_rate: Sample rate of their sound in Hz.

    Returns:
        Reasons why pairs were left out, with the number of pairs.
    """
    known: dict[Path, tuple[str, str]] = {}
    left_out: Counter[str] = Counter()
    for conversion in show_progress(conversions, "words"):
        pair, sounds, scores = conversion.pair, conversion.sounds, conversion.scores
        if not recogniser.understands(pair.language):
            left_out[f"words: {recogniser.name} does not understand {pair.language}"] += 1
            continue
        if pair.source not in known:
            known[pair.source] = (
                recogniser.transcript(sounds.source, sample_rate, pair.language),
                recogniser.transcript(sounds.vocoder, sample_rate, pair.language),
            )
        reference, vocoder = known[pair.source]
        after = ""  # without speech, Whisper would make up words
        if scores.has_speech:
            after = recogniser.transcript(sounds.conversion, sample_rate, pair.language)
        conversion.transcripts = Transcripts(reference, vocoder, after)
        if reference:
            scores.words_word_errors = word_errors(reference, after)
            scores.words_character_errors = character_errors(reference, after)
            scores.words_vocoder_word_errors = word_errors(reference, vocoder)
            scores.words_vocoder_character_errors = character_errors(reference, vocoder)
    return left_out


def word_errors(reference: str, hypothesis: str) -> Rate:
    """Return the word error rate of a transcript."""
    return Rate(*scorers.word_errors(reference, hypothesis))


def character_errors(reference: str, hypothesis: str) -> Rate:
    """Return the character error rate of a transcript."""
    return Rate(*scorers.character_errors(reference, hypothesis))
