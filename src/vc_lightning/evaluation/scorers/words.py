"""Score words by a recogniser of any language, such as Whisper."""

from collections import Counter
from collections.abc import Sequence

from vc_lightning.evaluation.progress import show_progress
from vc_lightning.evaluation.scorers.recognisers.texts import (
    character_errors,
    plain_text,
    word_errors,
)
from vc_lightning.evaluation.scorers.recognisers.whisper import Recogniser
from vc_lightning.evaluation.scores import Rate, ScoredConversion

UNSPACED = ("zh", "ja", "th", "yue", "my", "lo", "km")  # languages that write no spaces


def score(
    recogniser: Recogniser,
    conversions: Sequence[ScoredConversion],
    sample_rate: int,
    judge: str = "words",
) -> Counter[str]:
    """Set the error rates of sources, of the vocoder alone and of conversions.

    Args:
        recogniser: Transcribes recordings.
        conversions: The conversions.
        sample_rate: Sample rate of their sound in Hz.
        judge: Section of the scores. In "words" the reference is the pair's text where it is known;
            else, and in all others, it is the transcript of the source.

    Returns:
        Reasons why pairs were left out, with the number of pairs.
    """
    known: dict[tuple, dict[str, str]] = {}
    left_out: Counter[str] = Counter()
    for conversion in show_progress(conversions, judge):
        pair, sounds = conversion.pair, conversion.sounds
        if not recogniser.understands(pair.language):
            left_out[f"{judge}: {recogniser.name} does not understand {pair.language}"] += 1
            continue
        key = pair.source, pair.language
        if key not in known:
            said, language = recogniser.recognised(sounds.source, sample_rate, pair.language)
            known[key] = {"language": language, "source": said}
            if language and sounds.vocoder is not None:
                vocoded = recogniser.transcript(sounds.vocoder, sample_rate, language)
                known[key]["vocoder"] = vocoded
        if not known[key]["language"]:
            left_out[f"{judge}: {recogniser.name} only repeats itself; give a language"] += 1
            continue
        heard = dict(known[key])
        language = heard.pop("language")
        heard["conversion"] = conversion.heard(recogniser.transcript, sample_rate, language)
        conversion.transcripts |= {f"{judge}/{name}": text for name, text in heard.items()}
        reference = plain_text(pair.text) if judge == "words" else ""
        _set_errors(conversion, judge, reference, heard, language not in UNSPACED)
    return left_out


def _set_errors(
    conversion: ScoredConversion, judge: str, text: str, heard: dict[str, str], with_words: bool
) -> None:
    scores, reference = conversion.scores, text or heard["source"]
    if not reference:
        return
    after = character_errors(reference, heard["conversion"])
    scores[f"{judge}/character_errors"] = after
    if with_words:
        scores[f"{judge}/word_errors"] = word_errors(reference, heard["conversion"])
    if "vocoder" in heard:
        vocoder = character_errors(reference, heard["vocoder"])
        scores[f"{judge}/vocoder_character_errors"] = vocoder
    if judge == "words":
        before = character_errors(reference, heard["source"])
        scores["words/source_character_errors"] = before
        added = Rate(after.amount - before.amount, after.base)
        scores["words/added_character_errors"] = added
