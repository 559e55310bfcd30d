"""A second recogniser, of another family than Whisper (package `pocketsphinx`, extra `eval`)."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vc_lightning.audio import io as audio
from vc_lightning.audio.voice_activity import INT16_MAX
from vc_lightning.evaluation.results import ScoredConversion
from vc_lightning.evaluation.scorers import SAMPLE_RATE, plain_text, require_packages
from vc_lightning.evaluation.scoring import WordRecogniser, character_errors

PART = "pocketsphinx"  # its name in scorers=
PEAK = 0.5  # of its input: it takes 16-bit samples, in which quiet recordings would be lost
# Half the time of the defaults for 0.01 more character errors (0.36 against 0.35 on recordings).
MAX_STATES = 3_000  # HMMs that are searched in a frame
MAX_WORDS = 10  # words that may end in a frame
ENGLISH = ("", "en")


def require_installed() -> None:
    """Check that the packages are installed.

    Raises:
        MissingScorerError: Some are not.
    """
    require_packages(PART, "pocketsphinx", "jiwer")


class PocketSphinx:
    """Transcribes English by HMMs over Gaussian mixtures and a trigram model (Huggins-Daines 2006).

    Its model is in the wheel. It uses no neural network, so it does not favour a converter that was
    trained with Whisper's features.

    Raises:
        MissingScorerError: A package is not installed.
    """

    name = "PocketSphinx"

    def __init__(self) -> None:
        require_installed()
        from pocketsphinx import Decoder

        self.decoder = Decoder(loglevel="FATAL", cmn="batch", maxhmmpf=MAX_STATES, maxwpf=MAX_WORDS)

    def understands(self, language: str) -> bool:
        """Return whether a language is English, or "" where it is unknown."""
        return language in ENGLISH

    def transcript(self, wav: np.ndarray, sample_rate: int, language: str = "en") -> str:
        """Transcribe a recording.

        Args:
            wav: The recording (n,).
            sample_rate: Its sample rate in Hz.
            language: Not used; see `understands`.

        Returns:
            Lower-case text without punctuation; "" where nothing is understood.
        """
        wav = audio.resample(wav, sample_rate, SAMPLE_RATE)
        peak = np.abs(wav).max(initial=0)
        if peak < audio.SILENCE_PEAK:
            return ""  # it would make up a word
        pcm = np.round(wav * (PEAK * INT16_MAX / peak)).astype("<i2")
        self.decoder.start_utt()
        self.decoder.process_raw(pcm.tobytes(), full_utt=True)
        self.decoder.end_utt()
        found = self.decoder.hyp()
        return plain_text(found.hypstr) if found else ""


def score_words(
    recogniser: WordRecogniser, conversions: Iterable[ScoredConversion], sample_rate: int
) -> Counter[str]:
    """Count a second recogniser's errors on sources and on conversions, against one text.

    That is the pair's text, or else what the first recogniser understands in the source.

    Args:
        recogniser: Writes down words.
        conversions: The conversions.
        sample_rate: Sample rate of their sound in Hz.

    Returns:
        Why pairs were left out, and how many.
    """
    known: dict[Path, str] = {}
    left_out: Counter[str] = Counter()
    for conversion in conversions:
        pair, sounds, transcripts = conversion.pair, conversion.sounds, conversion.transcripts
        reference = plain_text(pair.text) or transcripts.source or ""
        if not recogniser.understands(pair.language):
            left_out[f"{PART}: understands English only"] += 1
            continue
        if not reference:
            left_out[f"{PART}: there is no text; add words to scorers=, or a column text"] += 1
            continue
        if pair.source not in known:
            known[pair.source] = recogniser.transcript(sounds.source, sample_rate)
        transcripts.pocketsphinx_source, transcripts.pocketsphinx_conversion = (
            known[pair.source],
            "",
        )
        if conversion.scores.has_speech:
            after = recogniser.transcript(sounds.conversion, sample_rate)
            transcripts.pocketsphinx_conversion = after
        conversion.scores.pocketsphinx_source = character_errors(
            reference, transcripts.pocketsphinx_source
        )
        conversion.scores.pocketsphinx_conversion = character_errors(
            reference, transcripts.pocketsphinx_conversion
        )
    return left_out
