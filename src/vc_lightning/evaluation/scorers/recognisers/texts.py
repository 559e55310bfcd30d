"""Plain texts, and the errors of transcripts."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jiwer import CharacterOutput, WordOutput

from vc_lightning.evaluation.scores import Rate

ENGLISH = ("", "en")  # languages that judges of English accept: "" is unknown


def plain_text(text: str) -> str:
    """Convert a text to lower case without punctuation and with single spaces."""
    import jiwer

    steps = [jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.RemoveMultipleSpaces()]
    return jiwer.Compose(steps)(text).strip()


def word_errors(reference: str, hypothesis: str) -> Rate:
    """Count the words that were substituted, deleted or inserted.

    Args:
        reference: The spoken text, see `plain_text`; not empty.
        hypothesis: The transcript, see `plain_text`.

    Returns:
        Number of errors over number of words of the reference.
    """
    import jiwer

    return _counted(jiwer.process_words(reference, hypothesis))


def character_errors(reference: str, hypothesis: str) -> Rate:
    """Count errors like `word_errors`, but in characters."""
    import jiwer

    return _counted(jiwer.process_characters(reference, hypothesis))


def _counted(found: "WordOutput | CharacterOutput") -> Rate:
    errors = found.substitutions + found.deletions + found.insertions
    return Rate(errors, found.hits + found.substitutions + found.deletions)
