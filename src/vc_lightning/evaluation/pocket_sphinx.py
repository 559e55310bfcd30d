"""A second recogniser, of another family than Whisper (package `pocketsphinx`, extra `eval`)."""

from collections.abc import Iterable

import numpy as np

from vc_lightning.audio import io as audio
from vc_lightning.audio.voice_activity import INT16_MAX
from vc_lightning.evaluation import scorers as judges
from vc_lightning.evaluation.results import Outcome
from vc_lightning.evaluation.scorers import SAMPLE_RATE, plain_text, require_packages

PART = "pocketsphinx"  # its name among the judges
PEAK = 0.5  # of what it hears: it takes 16-bit samples, in which quiet recordings would be lost
# Half the time of the defaults for 0.01 more character errors (0.36 against 0.35 on recordings).
MAX_STATES = 3_000  # HMMs that are searched in a frame
MAX_WORDS = 10  # that may end in a frame
ENGLISH = ("", "en")


def require_installed() -> None:
    """Checks that the judge can be made.

    Raises: MissingJudgeError naming the packages that are not installed.
    """
    require_packages(PART, "pocketsphinx", "jiwer")


class PocketSphinx:
    """Hidden Markov models over Gaussian mixtures with a trigram model (Huggins-Daines 2006).

    Its English model is in the wheel. It knows nothing of any network, so that a converter which
    was trained with Whisper's features can not have learned to please it.

    Raises: MissingJudgeError.
    """

    name = "PocketSphinx"

    def __init__(self):
        require_installed()
        from pocketsphinx import Decoder

        self.decoder = Decoder(loglevel="FATAL", cmn="batch", maxhmmpf=MAX_STATES, maxwpf=MAX_WORDS)

    def understands(self, language: str) -> bool:
        """Whether a language is English, or "", where it is not known."""
        return language in ENGLISH

    def transcript(self, wav: np.ndarray, sample_rate: int, language: str = "en") -> str:
        """What is said in a recording (n,), in small letters; "" where nothing is understood."""
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


def judge_words(
    recogniser: PocketSphinx, outcomes: Iterable[Outcome], sample_rate: int
) -> list[str]:
    """A second recogniser's errors on sources and on conversions, against one transcript.

    That is the pair's text or else what the first recogniser hears in the source.

    Returns: sentences on what was left out.
    """
    known, n_foreign, n_unwritten = {}, 0, 0
    for outcome in outcomes:
        pair = outcome.pair
        reference = plain_text(pair.text) or outcome.words.get("source", "")
        if not recogniser.understands(pair.language):
            n_foreign += 1
            continue
        if not reference:
            n_unwritten += 1
            continue
        if pair.source not in known:
            known[pair.source] = recogniser.transcript(outcome.source_wav, sample_rate)
        after = ""
        if outcome.values["similarity/speech"]:
            after = recogniser.transcript(outcome.wav, sample_rate)
        for name, heard in {"source": known[pair.source], "conversion": after}.items():
            n_errors, length = judges.character_errors(reference, heard)
            outcome.note(f"{PART}/{name}", n_errors / length, length)
            outcome.words[f"{PART}_{name}"] = heard
    left_out = []
    if n_foreign:
        left_out.append(f"{PART}: understands English only (pairs: {n_foreign})")
    if n_unwritten:
        left_out.append(
            f"{PART}: nobody wrote down what is said; add words to judges, or a "
            f"column text (pairs: {n_unwritten})"
        )
    return left_out
